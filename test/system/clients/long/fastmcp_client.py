"""FastMCP's client, as its documentation starts it: `fastmcp_client.py URL SECONDS (TOOL ARGUMENTS)...`.

It opens the system's browser. Lists tools, calls each one, and again after SECONDS, when its token has expired.
"""

import asyncio
import json
import sys

from fastmcp import Client


async def main(url: str, seconds: str, *calls: str) -> None:
    async with Client(url, auth="oauth") as client:
        print("tools", *[tool.name for tool in await client.list_tools()], flush=True)
        for wait in (0, int(seconds)):
            await asyncio.sleep(wait)
            for name, arguments in zip(calls[::2], calls[1::2]):
                answer = await client.call_tool(name, json.loads(arguments))
                print("answered", name, " ".join(answer.content[0].text.split()), flush=True)


asyncio.run(main(*sys.argv[1:]))
