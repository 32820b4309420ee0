import type { Upstream } from "../catalog.ts";

export default {
  title: "Exa",
  habit: "Answers without a token, too: only the resource metadata shows that a token gives more access",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/dc7eb18ef38c313eadd851a20ddad7c525a86920/tests/fixtures/oauth/mcp/exa.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/clout2buy/Ares/blob/7ff9cf317834d4a83a42b89e5587af8321e81930/tests/fixtures/oauth/idp/exa.as.json",
      date: "2026-10-01",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.exa.ai/mcp",
  anonymous: true,
  documents: {
    "https://mcp.exa.ai/.well-known/oauth-protected-resource/mcp": {
      resource: "https://mcp.exa.ai/mcp",
      authorization_servers: ["https://auth.exa.ai"],
      scopes_supported: ["mcp:tools"],
      bearer_methods_supported: ["header"],
    },
    "https://auth.exa.ai/.well-known/oauth-authorization-server": {
      issuer: "https://auth.exa.ai",
      authorization_endpoint: "https://auth.exa.ai/oauth/authorize",
      token_endpoint: "https://auth.exa.ai/api/oauth/token",
      registration_endpoint: "https://auth.exa.ai/api/oauth/register",
      revocation_endpoint: "https://auth.exa.ai/api/oauth/revoke",
      jwks_uri: "https://auth.exa.ai/api/oauth/jwks",
      response_types_supported: ["code"],
      grant_types_supported: [
        "authorization_code",
        "refresh_token",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
      ],
      token_endpoint_auth_methods_supported: ["none"],
      code_challenge_methods_supported: ["S256"],
      scopes_supported: ["mcp:tools"],
      client_id_metadata_document_supported: true,
    },
  },
} satisfies Upstream as Upstream;
