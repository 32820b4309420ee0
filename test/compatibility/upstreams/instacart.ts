import type { Upstream } from "../catalog.ts";

export default {
  title: "Instacart",
  habit:
    "The authorization endpoint has a query; token and authorization endpoint are on two other hosts; no registration",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/8ac9c68ce886eeb1d9289c22f3269b171e2549c2/tests/fixtures/oauth/idp/instacart.as.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/clout2buy/Ares/blob/f3ceaa6f29495e8aa4c38439cf50a236fd8222a2/tests/fixtures/oauth/idp/instacart.prm.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/clout2buy/Ares/blob/dc7eb18ef38c313eadd851a20ddad7c525a86920/packages/core/src/oauthMatrixData.ts",
      date: "2026-09-30",
    },
  ],
  looked: "2026-11-29",
  to: "https://fig-mcp.instacart.com/mcp",
  settings: {
    upstream_oauth2: {
      client_id: "instacart-connect",
      client_secret: "instacart-secret",
    },
  },
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer resource_metadata="https://fig-mcp.instacart.com/.well-known/oauth-protected-resource"',
    },
  },
  documents: {
    "https://fig-mcp.instacart.com/.well-known/oauth-protected-resource": {
      resource: "https://fig-mcp.instacart.com",
      authorization_servers: ["https://fig-mcp.instacart.com"],
      jwks_uri: "https://jwk.instacart.com/.well-known/jwks.json",
      scopes_supported: ["connect:fig_mcp"],
    },
    "https://fig-mcp.instacart.com/.well-known/oauth-authorization-server": {
      issuer: "https://fig-mcp.instacart.com",
      authorization_endpoint: "https://www.instacart.com/oauth/authorize?addr=1",
      token_endpoint: "https://connect.instacart.com/v2/oauth/token",
      jwks_uri: "https://jwk.instacart.com/.well-known/jwks.json",
      response_types_supported: ["code"],
      grant_types_supported: ["authorization_code", "refresh_token", "client_credentials"],
      token_endpoint_auth_methods_supported: ["client_secret_post"],
      code_challenge_methods_supported: ["S256"],
      scopes_supported: ["connect:fig_mcp"],
    },
  },
} satisfies Upstream as Upstream;
