import type { Upstream } from "../catalog.ts";

export default {
  title: "Rust SDK's example server",
  habit:
    "An empty 401 without a challenge; issues refresh tokens and rejects each of them (unsupported_grant_type); no method in its metadata, and ignores Basic",
  sources: [
    {
      url: "https://github.com/modelcontextprotocol/rust-sdk/blob/4a738b9dd99eaca418b614afa433a0cbdaf8d056/examples/servers/src/complex_auth_streamhttp.rs",
      date: "2026-08-20",
    },
  ],
  looked: "2026-11-29",
  to: "https://rmcp.example.net/mcp",
  unauthorized: { status: 401, body: "" },
  documents: {
    "https://rmcp.example.net/.well-known/oauth-authorization-server": {
      issuer: "https://rmcp.example.net",
      authorization_endpoint: "https://rmcp.example.net/oauth/authorize",
      token_endpoint: "https://rmcp.example.net/oauth/token",
      registration_endpoint: "https://rmcp.example.net/oauth/register",
      jwks_uri: "https://rmcp.example.net/oauth/jwks",
      scopes_supported: ["profile", "email"],
      response_types_supported: ["code"],
      code_challenge_methods_supported: ["S256"],
    },
  },
  registration: {
    body: {
      token_endpoint_auth_method: undefined,
      grant_types: undefined,
      response_types: undefined,
      scope: undefined,
      client_secret_expires_at: undefined,
    },
  },
  token: {
    methods: ["client_secret_post", "none"],
    refreshes: false,
    first: {
      access_token: "$access_token",
      token_type: "Bearer",
      expires_in: 3600,
      refresh_token: "$refresh_token",
      scope: "",
    },
    refusesRefreshes: {
      status: 400,
      body: { error: "unsupported_grant_type", error_description: "only authorization_code is supported" },
    },
  },
  guessed: [
    "documents (the issuer: the example has its address without a scheme, which no client can compare)",
  ],
} satisfies Upstream as Upstream;
