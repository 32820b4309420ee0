"""An MCP client of the Python SDK: `python_client.py URL REDIRECT_URI CA_FILE`.

Prints `authorize URL` where a person is needed and reads the URL they came back to from standard input; then
calls the tool `whoami` and prints what it answers.
"""

import asyncio
import ssl
import sys
from urllib.parse import parse_qs, urlsplit

import httpx2
from mcp import ClientSession
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata


class Memory:
    def __init__(self):
        self.tokens = None
        self.client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client):
        self.client = client


async def redirect(url):
    print(f"authorize {url}", flush=True)


async def callback():
    line = await asyncio.to_thread(sys.stdin.readline)
    query = {name: values[0] for name, values in parse_qs(urlsplit(line.strip()).query).items()}
    fields = AuthorizationCodeResult.__annotations__
    return AuthorizationCodeResult(**{name: value for name, value in query.items() if name in fields})


async def main(url, redirect_uri, ca_file):
    auth = OAuthClientProvider(
        server_url=url,
        client_metadata=OAuthClientMetadata(
            client_name="Python",
            redirect_uris=[redirect_uri],
            grant_types=["authorization_code", "refresh_token"],
            response_types=["code"],
            token_endpoint_auth_method="none",
        ),
        storage=Memory(),
        redirect_handler=redirect,
        callback_handler=callback,
    )
    context = ssl.create_default_context(cafile=ca_file)
    async with httpx2.AsyncClient(auth=auth, verify=context, follow_redirects=True) as client:
        async with streamable_http_client(url, http_client=client) as streams:
            async with ClientSession(streams[0], streams[1]) as session:
                await session.initialize()
                answer = await session.call_tool("whoami", {})
                print(f"answered {answer.content[0].text}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
