import type { Upstream } from "../zoo.ts";

export default {
  title: "Canva",
  habit: "Sixteen scopes; the resource is the origin, and so is its metadata, whatever the challenge says",
  sources: [
    { url: "https://mcp.canva.com/.well-known/oauth-authorization-server", date: "2026-09-20" },
    { url: "https://mcp.canva.com/.well-known/oauth-protected-resource", date: "2026-09-20" },
  ],
  looked: "2026-11-28",
  to: "https://mcp.canva.com/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer realm="OAuth", resource_metadata="https://mcp.canva.com/.well-known/oauth-protected-resource/mcp", error="invalid_token"',
    },
  },
  documents: {
    "https://mcp.canva.com/.well-known/oauth-protected-resource": {
      resource: "https://mcp.canva.com",
      authorization_servers: ["https://mcp.canva.com"],
      scopes_supported: [
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
      ],
      bearer_methods_supported: ["header"],
    },
    "https://mcp.canva.com/.well-known/oauth-authorization-server": {
      issuer: "https://mcp.canva.com",
      authorization_endpoint: "https://mcp.canva.com/authorize",
      token_endpoint: "https://mcp.canva.com/token",
      registration_endpoint: "https://mcp.canva.com/register",
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "none"],
      code_challenge_methods_supported: ["plain", "S256"],
      response_types_supported: ["code"],
      response_modes_supported: ["query"],
      grant_types_supported: [
        "authorization_code",
        "refresh_token",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
      ],
      revocation_endpoint: "https://mcp.canva.com/token",
      client_id_metadata_document_supported: true,
    },
  },
} satisfies Upstream as Upstream;
