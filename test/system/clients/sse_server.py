"""A legacy HTTP+SSE server of the Python SDK: `sse_server.py PORT`, at /sse and /messages/."""

import sys

from mcp.server import MCPServer

server = MCPServer("legacy")


@server.tool()
def shout(text: str) -> str:
    return text.upper()


server.run(transport="sse", host="127.0.0.1", port=int(sys.argv[1]))
