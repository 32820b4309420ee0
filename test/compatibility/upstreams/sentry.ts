import type { Upstream } from "../catalog.ts";

export default {
  title: "Sentry",
  habit: "Sends iss (RFC 9207); the resource metadata is only at the path",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/f3ceaa6f29495e8aa4c38439cf50a236fd8222a2/tests/fixtures/oauth/mcp/sentry.json",
      date: "2026-10-01",
    },
    {
      url: "https://raw.githubusercontent.com/api-evangelist/sentry-system/refs/heads/main/well-known/sentry-system-well-known.yml",
      date: "2026-09-18",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.sentry.dev/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer realm="OAuth", resource_metadata="https://mcp.sentry.dev/.well-known/oauth-protected-resource/mcp"',
    },
  },
  documents: {
    "https://mcp.sentry.dev/.well-known/oauth-protected-resource/mcp": {
      resource: "https://mcp.sentry.dev/mcp",
      authorization_servers: ["https://mcp.sentry.dev"],
      scopes_supported: ["org:read", "project:write", "team:write", "event:write", "alerts:write"],
      bearer_methods_supported: ["header"],
    },
    "https://mcp.sentry.dev/.well-known/oauth-authorization-server": {
      issuer: "https://mcp.sentry.dev",
      authorization_endpoint: "https://mcp.sentry.dev/oauth/authorize",
      token_endpoint: "https://mcp.sentry.dev/oauth/token",
      registration_endpoint: "https://mcp.sentry.dev/oauth/register",
      scopes_supported: ["org:read", "project:write", "team:write", "event:write", "alerts:write"],
      response_types_supported: ["code"],
      response_modes_supported: ["query"],
      grant_types_supported: ["authorization_code", "refresh_token"],
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "none"],
      revocation_endpoint: "https://mcp.sentry.dev/oauth/token",
      code_challenge_methods_supported: ["S256"],
      authorization_response_iss_parameter_supported: true,
      client_id_metadata_document_supported: true,
    },
  },
} satisfies Upstream as Upstream;
