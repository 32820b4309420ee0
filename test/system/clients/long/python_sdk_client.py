"""An MCP client of the Python SDK: `python_sdk_client.py URL SECONDS (TOOL ARGUMENTS)...`.

Prints the address where a person is needed and waits for them at its callback. Lists tools, calls each one, and
again after SECONDS, when its token has expired.
"""

import asyncio
import json
import os
import ssl
import sys
from urllib.parse import parse_qs, urlsplit

import httpx2
from mcp import ClientSession
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata

sys.dont_write_bytecode = True
sys.path.append(os.path.join(os.path.dirname(__file__), ".."))
from python_client import Memory  # noqa: E402


async def redirect(url):
    print(url, flush=True)


async def main(url, seconds, *calls):
    came = asyncio.get_running_loop().create_future()

    async def answer_browser(reader, writer):
        path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nDone")
        await writer.drain()
        writer.close()
        query = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
        if "state" in query and not came.done():
            came.set_result(query)

    async def callback():
        query, fields = await came, AuthorizationCodeResult.__annotations__
        return AuthorizationCodeResult(**{name: value for name, value in query.items() if name in fields})

    browser = await asyncio.start_server(answer_browser, "127.0.0.1", 0)
    redirect_uri = f"http://127.0.0.1:{browser.sockets[0].getsockname()[1]}/callback"
    auth = OAuthClientProvider(
        server_url=url,
        client_metadata=OAuthClientMetadata(
            client_name="Python SDK",
            redirect_uris=[redirect_uri],
            grant_types=["authorization_code", "refresh_token"],
            response_types=["code"],
            token_endpoint_auth_method="none",
        ),
        storage=Memory(),
        redirect_handler=redirect,
        callback_handler=callback,
    )
    context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    async with httpx2.AsyncClient(auth=auth, verify=context, follow_redirects=True) as client:
        async with streamable_http_client(url, http_client=client) as streams:
            async with ClientSession(streams[0], streams[1]) as session:
                await session.initialize()
                print("tools", *[tool.name for tool in (await session.list_tools()).tools], flush=True)
                for wait in (0, int(seconds)):
                    await asyncio.sleep(wait)
                    for name, arguments in zip(calls[::2], calls[1::2]):
                        answer = await session.call_tool(name, json.loads(arguments))
                        print("answered", name, " ".join(answer.content[0].text.split()), flush=True)


asyncio.run(main(*sys.argv[1:]))
