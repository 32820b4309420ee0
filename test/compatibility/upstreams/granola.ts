import type { Upstream } from "../zoo.ts";

export default {
  title: "Granola",
  habit:
    "An authorization server of another product on a host of its own; scopes of the resource and of the server differ",
  sources: [
    { url: "https://mcp-auth.granola.ai/.well-known/oauth-authorization-server", date: "2026-09-30" },
    { url: "https://mcp.granola.ai/.well-known/oauth-protected-resource", date: "2026-09-30" },
  ],
  looked: "2026-11-28",
  to: "https://mcp.granola.ai/mcp",
  documents: {
    "https://mcp.granola.ai/.well-known/oauth-protected-resource": {
      resource: "https://mcp.granola.ai/mcp",
      authorization_servers: ["https://mcp-auth.granola.ai"],
      scopes_supported: ["mcp"],
    },
    "https://mcp-auth.granola.ai/.well-known/oauth-authorization-server": {
      issuer: "https://mcp-auth.granola.ai",
      authorization_endpoint: "https://mcp-auth.granola.ai/oauth2/authorize",
      token_endpoint: "https://mcp-auth.granola.ai/oauth2/token",
      registration_endpoint: "https://mcp-auth.granola.ai/oauth2/register",
      token_endpoint_auth_methods_supported: ["none"],
      code_challenge_methods_supported: ["S256"],
      scopes_supported: ["email", "offline_access", "openid", "profile"],
      device_authorization_endpoint: "https://mcp-auth.granola.ai/oauth2/device_authorization",
      client_id_metadata_document_supported: true,
    },
  },
} satisfies Upstream as Upstream;
