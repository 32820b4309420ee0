import type { Upstream } from "../catalog.ts";

const scopes = [
  "profile:read",
  "design:meta:read",
  "design:content:write",
  "design:content:read",
  "folder:read",
  "folder:write",
  "brandtemplate:content:read",
  "brandtemplate:meta:read",
  "brandtemplate:content:write",
  "comment:write",
  "comment:read",
  "asset:read",
  "asset:write",
  "brandkit:read",
  "help:answers:read",
  "help:answers:write",
];

export default {
  title: "Canva",
  habit:
    "16 scopes; one metadata document for the endpoint, another for the origin at the root; tokens are revoked at the token endpoint",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/f3ceaa6f29495e8aa4c38439cf50a236fd8222a2/tests/fixtures/oauth/mcp/canva.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/clout2buy/Ares/blob/7ff9cf317834d4a83a42b89e5587af8321e81930/tests/fixtures/oauth/idp/canva.prm.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/api-evangelist/canva/blob/3eeec3a2971ca148bb7d1ee55d56ff86e7eee160/well-known/canva-mcp-oauth-authorization-server.json",
      date: "2026-09-19",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.canva.com/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer realm="OAuth", resource_metadata="https://mcp.canva.com/.well-known/oauth-protected-resource/mcp", error="invalid_token", error_description="Missing or invalid access token"',
    },
  },
  documents: {
    "https://mcp.canva.com/.well-known/oauth-protected-resource/mcp": {
      resource: "https://mcp.canva.com/mcp",
      authorization_servers: ["https://mcp.canva.com"],
      scopes_supported: scopes,
      bearer_methods_supported: ["header"],
    },
    "https://mcp.canva.com/.well-known/oauth-protected-resource": {
      resource: "https://mcp.canva.com",
      authorization_servers: ["https://mcp.canva.com"],
      scopes_supported: scopes,
      bearer_methods_supported: ["header"],
    },
    "https://mcp.canva.com/.well-known/oauth-authorization-server": {
      issuer: "https://mcp.canva.com",
      authorization_endpoint: "https://mcp.canva.com/authorize",
      token_endpoint: "https://mcp.canva.com/token",
      registration_endpoint: "https://mcp.canva.com/register",
      response_types_supported: ["code"],
      response_modes_supported: ["query"],
      grant_types_supported: [
        "authorization_code",
        "refresh_token",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
      ],
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "none"],
      revocation_endpoint: "https://mcp.canva.com/token",
      code_challenge_methods_supported: ["plain", "S256"],
      client_id_metadata_document_supported: true,
      authorization_grant_profiles_supported: ["urn:ietf:params:oauth:grant-profile:id-jag"],
    },
  },
} satisfies Upstream as Upstream;
