import type { Upstream } from "../zoo.ts";

export default {
  title: "Intercom",
  habit: "A challenge without metadata, and 404 at both well-known places of the resource",
  sources: [
    { url: "https://mcp.intercom.com/.well-known/oauth-authorization-server", date: "2026-09-30" },
    { url: "https://developers.intercom.com/docs/guides/mcp", date: "2026-09-30" },
  ],
  looked: "2026-11-28",
  to: "https://mcp.intercom.com/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer realm="OAuth", error="invalid_token", error_description="Missing or invalid access token"',
    },
  },
  documents: {
    "https://mcp.intercom.com/.well-known/oauth-authorization-server": {
      issuer: "https://mcp.intercom.com",
      authorization_endpoint: "https://mcp.intercom.com/authorize",
      token_endpoint: "https://mcp.intercom.com/token",
      registration_endpoint: "https://mcp.intercom.com/register",
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "none"],
      code_challenge_methods_supported: ["S256"],
      revocation_endpoint: "https://mcp.intercom.com/token",
      scopes_supported: [],
      grant_types_supported: ["authorization_code", "refresh_token"],
    },
  },
} satisfies Upstream as Upstream;
