"""A FastMCP server: `fastmcp_server.py PORT sse`, or `fastmcp_server.py PORT oauth ISSUER CLIENT_ID CLIENT_SECRET`.

The latter is an authorization server of its own, with its own registration, consent page and tokens, that signs
people in at the company's provider.
"""

import sys

from fastmcp import FastMCP
from fastmcp.server.auth.oidc_proxy import OIDCProxy
from fastmcp.server.dependencies import get_access_token

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
server = FastMCP("fastmcp", auth=auth)


@server.tool
def whoami() -> str:
    token = get_access_token()
    return str(token.claims.get("sub")) if token else "nobody"


server.run(transport="sse" if kind == "sse" else "http", host="127.0.0.1", port=int(port), show_banner=False)
