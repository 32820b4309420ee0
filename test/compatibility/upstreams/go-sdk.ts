import type { Upstream } from "../catalog.ts";

export default {
  title: "Go SDK's server",
  habit:
    "Its example names the URL of a metadata document as authorization server; a plain text challenge, which names one scope of two",
  sources: [
    {
      url: "https://github.com/modelcontextprotocol/go-sdk/blob/3d6450fccf564e7c92a54d4274c35635a8c39821/examples/server/auth-middleware/main.go",
      date: "2026-08-21",
    },
    {
      url: "https://github.com/modelcontextprotocol/go-sdk/blob/3d6450fccf564e7c92a54d4274c35635a8c39821/auth/auth.go",
      date: "2026-08-21",
    },
  ],
  looked: "2026-11-29",
  to: "https://go-sdk.example.net/mcp/jwt",
  settings: {
    upstream_oauth2: {
      client_id: "go-client",
      client_secret: "go-secret",
      scopes: ["read", "write"],
      endpoint: {
        auth_url: "https://auth.go-sdk.example.net/authorize",
        token_url: "https://auth.go-sdk.example.net/token",
      },
    },
  },
  unauthorized: {
    status: 401,
    headers: {
      "content-type": "text/plain; charset=utf-8",
      "www-authenticate":
        'Bearer resource_metadata="https://go-sdk.example.net/.well-known/oauth-protected-resource", scope="read"',
    },
    body: "no bearer token\n",
  },
  documents: {
    "https://go-sdk.example.net/.well-known/oauth-protected-resource": {
      resource: "https://go-sdk.example.net/mcp/jwt",
      authorization_servers: ["https://auth.go-sdk.example.net/.well-known/openid-configuration"],
      scopes_supported: ["read", "write"],
    },
    "https://auth.go-sdk.example.net/.well-known/openid-configuration": {
      issuer: "https://auth.go-sdk.example.net",
      authorization_endpoint: "https://auth.go-sdk.example.net/authorize",
      token_endpoint: "https://auth.go-sdk.example.net/token",
      code_challenge_methods_supported: ["S256"],
    },
  },
} satisfies Upstream as Upstream;
