import type { Upstream } from "../catalog.ts";

export default {
  title: "C# SDK's test server",
  habit:
    "Registration answers with status 200; rejects a resource other than its own at every step; rejects a client with a problem document",
  sources: [
    {
      url: "https://github.com/modelcontextprotocol/csharp-sdk/blob/609499b2988e3f4a4c732552290bc9241fb90db9/tests/ModelContextProtocol.TestOAuthServer/Program.cs",
      date: "2026-08-19",
    },
  ],
  looked: "2026-11-29",
  to: "https://csharp.example.net/mcp",
  documents: {
    "https://csharp.example.net/.well-known/oauth-protected-resource/mcp": {
      resource: "https://csharp.example.net/mcp",
      authorization_servers: ["https://auth.csharp.example.net"],
      scopes_supported: ["mcp:tools"],
    },
    "https://auth.csharp.example.net/.well-known/oauth-authorization-server": {
      issuer: "https://auth.csharp.example.net",
      authorization_endpoint: "https://auth.csharp.example.net/authorize",
      token_endpoint: "https://auth.csharp.example.net/token",
      jwks_uri: "https://auth.csharp.example.net/.well-known/jwks.json",
      introspection_endpoint: "https://auth.csharp.example.net/introspect",
      registration_endpoint: "https://auth.csharp.example.net/register",
      response_types_supported: ["code"],
      scopes_supported: ["openid", "profile", "email", "mcp:tools"],
      token_endpoint_auth_methods_supported: ["client_secret_post"],
      claims_supported: ["sub", "iss", "name", "email", "aud"],
      code_challenge_methods_supported: ["S256"],
      grant_types_supported: ["authorization_code", "refresh_token"],
    },
  },
  registration: {
    status: 200,
    body: { client_secret_expires_at: undefined, client_name: undefined, scope: undefined },
  },
  authorization: { wants: { resource: "https://csharp.example.net/mcp" } },
  token: {
    wants: { resource: "https://csharp.example.net/mcp", client_id: "*" },
    refused: {
      status: 400,
      body: { error: "invalid_grant", error_description: "Invalid refresh token" },
    },
  },
} satisfies Upstream as Upstream;
