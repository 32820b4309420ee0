import type { Upstream } from "../catalog.ts";

export default {
  title: "Jam",
  habit: "Scopes in the challenge; more in the server's metadata, which are not requested",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/7ff9cf317834d4a83a42b89e5587af8321e81930/tests/fixtures/oauth/mcp/jam.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/api-evangelist/jam/blob/6f9cecdd5e722949dacecfff3f79784f241a8cc2/well-known/jam-api-oauth-authorization-server.json",
      date: "2026-09-19",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.jam.dev/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer resource_metadata="https://mcp.jam.dev/.well-known/oauth-protected-resource", scope="mcp:read mcp:write"',
    },
  },
  documents: {
    "https://mcp.jam.dev/.well-known/oauth-protected-resource": {
      resource: "https://mcp.jam.dev/mcp",
      resource_server: "https://mcp.jam.dev/",
      authorization_servers: ["https://api.jam.dev"],
      scopes_supported: ["mcp:read", "mcp:write"],
      introspection_endpoint: "https://api.jam.dev/oauth/introspect",
    },
    "https://api.jam.dev/.well-known/oauth-authorization-server": {
      issuer: "https://api.jam.dev",
      authorization_endpoint: "https://api.jam.dev/oauth/authorize",
      token_endpoint: "https://api.jam.dev/oauth/token",
      registration_endpoint: "https://api.jam.dev/oauth/register",
      introspection_endpoint: "https://api.jam.dev/oauth/introspect",
      revocation_endpoint: "https://api.jam.dev/oauth/revoke",
      scopes_supported: ["mcp:read", "mcp:write", "cli:read", "cli:write"],
      response_types_supported: ["code"],
      grant_types_supported: ["authorization_code", "refresh_token"],
      token_endpoint_auth_methods_supported: ["none", "client_secret_post"],
      code_challenge_methods_supported: ["S256"],
    },
  },
  authorization: {
    wants: {
      scope: "mcp:read mcp:write",
    },
  },
} satisfies Upstream as Upstream;
