import type { Upstream } from "../zoo.ts";

export default {
  title: "MongoDB Atlas",
  habit: "No registration: a client id document is the way in",
  sources: [
    { url: "https://www.mongodb.com/docs/mcp-server/overview/", date: "2026-09-30" },
    { url: "https://authorize.mongodb.com/.well-known/oauth-authorization-server", date: "2026-09-30" },
  ],
  looked: "2026-11-28",
  to: "https://mcp.mongodb.com/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer resource_metadata="https://mcp.mongodb.com/.well-known/oauth-protected-resource"',
    },
  },
  documents: {
    "https://mcp.mongodb.com/.well-known/oauth-protected-resource": {
      resource: "https://mcp.mongodb.com",
      authorization_servers: ["https://authorize.mongodb.com"],
    },
    "https://authorize.mongodb.com/.well-known/oauth-authorization-server": {
      issuer: "https://authorize.mongodb.com",
      authorization_endpoint: "https://cloud.mongodb.com/oauth/authorize",
      token_endpoint: "https://authorize.mongodb.com/tokens",
      token_endpoint_auth_methods_supported: ["none"],
      code_challenge_methods_supported: ["S256"],
      revocation_endpoint: "https://authorize.mongodb.com/tokens/revoke",
      client_id_metadata_document_supported: true,
    },
  },
} satisfies Upstream as Upstream;
