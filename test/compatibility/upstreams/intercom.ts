import type { Upstream } from "../catalog.ts";

export default {
  title: "Intercom",
  habit: "A challenge with only a realm, and 404 at the resource's well-known locations",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/f3ceaa6f29495e8aa4c38439cf50a236fd8222a2/tests/fixtures/oauth/idp/intercom.as.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/clout2buy/Ares/blob/dc7eb18ef38c313eadd851a20ddad7c525a86920/packages/core/src/oauthMatrixData.ts",
      date: "2026-09-30",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.intercom.com/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate": 'Bearer realm="OAuth"',
    },
  },
  documents: {
    "https://mcp.intercom.com/.well-known/oauth-authorization-server": {
      issuer: "https://mcp.intercom.com",
      authorization_endpoint: "https://mcp.intercom.com/authorize",
      token_endpoint: "https://mcp.intercom.com/token",
      registration_endpoint: "https://mcp.intercom.com/register",
      response_types_supported: ["code"],
      response_modes_supported: ["query"],
      grant_types_supported: ["authorization_code", "refresh_token"],
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "none"],
      revocation_endpoint: "https://mcp.intercom.com/token",
      code_challenge_methods_supported: ["S256"],
    },
  },
} satisfies Upstream as Upstream;
