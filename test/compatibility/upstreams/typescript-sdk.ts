import type { Upstream } from "../catalog.ts";

export default {
  title: "TypeScript SDK's own authorization server",
  habit: "An issuer with a trailing slash; id and secret in the body, or no secret, never Basic; sends iss",
  sources: [
    {
      url: "https://github.com/modelcontextprotocol/typescript-sdk/blob/3924de99df834302d89f5997a1b64ca268282284/packages/server-legacy/src/auth/router.ts",
      date: "2026-08-18",
    },
  ],
  looked: "2026-11-29",
  to: "https://ts-sdk.example.net/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer error="invalid_token", error_description="Missing Authorization header", resource_metadata="https://ts-sdk.example.net/.well-known/oauth-protected-resource/mcp"',
    },
  },
  documents: {
    "https://ts-sdk.example.net/.well-known/oauth-protected-resource/mcp": {
      resource: "https://ts-sdk.example.net/mcp",
      authorization_servers: ["https://ts-sdk.example.net/"],
    },
    "https://ts-sdk.example.net/.well-known/oauth-authorization-server": {
      issuer: "https://ts-sdk.example.net/",
      authorization_endpoint: "https://ts-sdk.example.net/authorize",
      token_endpoint: "https://ts-sdk.example.net/token",
      registration_endpoint: "https://ts-sdk.example.net/register",
      token_endpoint_auth_methods_supported: ["client_secret_post", "none"],
      code_challenge_methods_supported: ["S256"],
      authorization_response_iss_parameter_supported: true,
      response_types_supported: ["code"],
      grant_types_supported: ["authorization_code", "refresh_token"],
    },
  },
  token: { wants: { client_id: "*" } },
} satisfies Upstream as Upstream;
