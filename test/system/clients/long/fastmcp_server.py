"""A FastMCP server: `fastmcp_server.py PORT sse`, `fastmcp_server.py PORT key KEY FILE`, or
`fastmcp_server.py PORT oauth ISSUER CLIENT_ID CLIENT_SECRET`.

The second requires a key in the header x-api-key, and writes what a client of `whoami` declares into FILE. The last is an authorization server of its own, with its own
registration, consent page and tokens, that signs people in at the company's provider.
"""

import json
import sys

from fastmcp import Context, FastMCP
from fastmcp.server.auth.oidc_proxy import OIDCProxy
from fastmcp.server.dependencies import get_access_token
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse


class RequireKey:
    def __init__(self, app, key):
        self.app, self.key = app, key.encode()

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http" and dict(scope["headers"]).get(b"x-api-key") != self.key:
            return await PlainTextResponse("no key", 401)(scope, receive, send)
        await self.app(scope, receive, send)


port, kind, *rest = sys.argv[1:]
auth = None
if kind == "oauth":
    issuer, client_id, client_secret = rest
    auth = OIDCProxy(
        config_url=f"{issuer}/.well-known/openid-configuration",
        client_id=client_id,
        client_secret=client_secret,
        base_url=f"http://127.0.0.1:{port}",
        required_scopes=["openid"],
        # Its access tokens are opaque.
        verify_id_token=True,
        # It knows no resource indicators.
        forward_resource=False,
    )
options = {"middleware": [Middleware(RequireKey, key=rest[0])]} if kind == "key" else {}
server = FastMCP("fastmcp", auth=auth)


@server.tool
def whoami(ctx: Context) -> str:
    if kind == "key":
        params, able = ctx.session.client_params, ctx.session.client_capabilities
        declared = {
            "revision": params.protocol_version if params else "2026-07-28",
            "capabilities": able.model_dump(mode="json", by_alias=True, exclude_none=True) if able else {},
        }
        with open(rest[1], "w") as file:
            json.dump(declared, file)
        return "holder of the key"
    token = get_access_token()
    return str(token.claims.get("sub")) if token else "nobody"


@server.tool
async def choose(ctx: Context) -> str:
    """Asks the user."""
    answer = await ctx.elicit("Which colour?", response_type=str)
    return f"{answer.action} {getattr(answer, 'data', '')}"


@server.resource("note://{name}")
def note(name: str) -> str:
    return f"the note {name}"


server.run(
    transport="sse" if kind == "sse" else "http",
    host="127.0.0.1",
    port=int(port),
    show_banner=False,
    **options,
)
