import type { Upstream } from "../catalog.ts";

export default {
  title: "PayPal",
  habit:
    "Everything on one host; identity scopes only; states that client id metadata documents are not supported; the same stack as Square and Dodo Payments",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/8ac9c68ce886eeb1d9289c22f3269b171e2549c2/tests/fixtures/oauth/mcp/paypal.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/clout2buy/Ares/blob/dc7eb18ef38c313eadd851a20ddad7c525a86920/packages/core/src/oauthMatrixData.ts",
      date: "2026-09-30",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.paypal.com/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer realm="OAuth", resource_metadata="https://mcp.paypal.com/.well-known/oauth-protected-resource/mcp", error="invalid_token", error_description="Missing or invalid access token"',
    },
  },
  documents: {
    "https://mcp.paypal.com/.well-known/oauth-protected-resource/mcp": {
      resource: "https://mcp.paypal.com/mcp",
      authorization_servers: ["https://mcp.paypal.com"],
      scopes_supported: ["openid", "email", "profile"],
      bearer_methods_supported: ["header"],
    },
    "https://mcp.paypal.com/.well-known/oauth-authorization-server": {
      issuer: "https://mcp.paypal.com",
      authorization_endpoint: "https://mcp.paypal.com/authorize",
      token_endpoint: "https://mcp.paypal.com/token",
      registration_endpoint: "https://mcp.paypal.com/register",
      response_types_supported: ["code"],
      response_modes_supported: ["query"],
      grant_types_supported: ["authorization_code", "refresh_token"],
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "none"],
      revocation_endpoint: "https://mcp.paypal.com/token",
      code_challenge_methods_supported: ["S256"],
      client_id_metadata_document_supported: false,
    },
  },
} satisfies Upstream as Upstream;
