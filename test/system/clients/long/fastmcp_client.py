"""FastMCP's client, as its documentation starts it: `fastmcp_client.py URL SECONDS`.

It opens the system's browser. Lists tools, calls `whoami`, and again after SECONDS, when its token has expired.
"""

import asyncio
import sys

from fastmcp import Client


async def main(url: str, seconds: str) -> None:
    async with Client(url, auth="oauth") as client:
        print("tools", *[tool.name for tool in await client.list_tools()], flush=True)
        for wait in (0, int(seconds)):
            await asyncio.sleep(wait)
            answer = await client.call_tool("whoami", {})
            print("answered", answer.content[0].text, flush=True)


asyncio.run(main(*sys.argv[1:3]))
