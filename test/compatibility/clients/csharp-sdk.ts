import type { Client } from "../catalog.ts";

export default {
  title: "C# SDK",
  habit: "A native application with a secret in the body",
  sources: [
    {
      url: "https://github.com/modelcontextprotocol/csharp-sdk/blob/609499b2/src/ModelContextProtocol.Core/Authentication/ClientOAuthProvider.cs",
      date: "2026-08-19",
    },
    {
      url: "https://github.com/modelcontextprotocol/csharp-sdk/blob/609499b2/samples/ProtectedMcpClient/Program.cs",
      date: "2026-08-19",
    },
  ],
  looked: "2026-11-28",
  registers: {
    client_name: "ProtectedMcpClient",
    redirect_uris: ["http://localhost:1179/callback"],
    token_endpoint_auth_method: "client_secret_post",
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    scope: "mcp",
    application_type: "native",
  },
  token: { method: "client_secret_post", parameters: { resource: "$resource" } },
  discovers: ["challenge", "resource-path", "resource-root"],
  metadata: ["oauth-authorization-server", "openid-configuration"],
  authorize: { state: "s", scope: "mcp", resource: "$resource" },
} satisfies Client as Client;
