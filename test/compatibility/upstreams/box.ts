import type { Upstream } from "../zoo.ts";

export default {
  title: "Box",
  habit:
    "The endpoint is the origin; any other path is 401, too; the issuer is named with a slash that its metadata does not have",
  sources: [
    { url: "https://developer.box.com/guides/box-mcp/setup", date: "2026-09-13" },
    { url: "https://mcp.box.com/.well-known/oauth-protected-resource", date: "2026-09-13" },
    { url: "https://api.box.com/.well-known/oauth-authorization-server", date: "2026-09-13" },
  ],
  looked: "2026-11-28",
  to: "https://mcp.box.com/",
  settings: {
    upstream_oauth2: {
      client_id: "box-integration",
      client_secret: "box-secret",
      scopes: ["root_readwrite", "ai.readwrite"],
    },
  },
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer realm="Service", error="invalid_request", error_description="The access token was not found.", resource_metadata="https://mcp.box.com/.well-known/oauth-protected-resource"',
    },
    body: "",
  },
  elsewhere: { status: 401, body: "" },
  documents: {
    "https://mcp.box.com/.well-known/oauth-protected-resource": {
      resource: "https://mcp.box.com",
      authorization_servers: ["https://api.box.com/"],
      resource_name: "Box Model Context Protocol Server",
    },
    "https://api.box.com/.well-known/oauth-authorization-server": {
      issuer: "https://api.box.com",
      authorization_endpoint: "https://account.box.com/api/oauth2/authorize",
      token_endpoint: "https://api.box.com/oauth2/token",
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post"],
      code_challenge_methods_supported: ["S256"],
      revocation_endpoint: "https://api.box.com/oauth2/revoke",
    },
  },
} satisfies Upstream as Upstream;
