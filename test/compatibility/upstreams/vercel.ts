import type { Upstream } from "../catalog.ts";

export default {
  title: "Vercel",
  habit: "The server is at the root; registration is limited to reviewed redirect URIs",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/8ac9c68ce886eeb1d9289c22f3269b171e2549c2/tests/fixtures/oauth/mcp/vercel.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/api-evangelist/vercel/blob/606dfb20796af9fa36ad4444f17aec1930ef37d4/well-known/vercel-vercel-oauth-authorization-server.json",
      date: "2026-09-19",
    },
    {
      url: "https://github.com/clout2buy/Ares/blob/dc7eb18ef38c313eadd851a20ddad7c525a86920/packages/core/src/oauthMatrixData.ts",
      date: "2026-09-30",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.vercel.com/",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer error="invalid_token", error_description="No authorization provided", resource_metadata="https://mcp.vercel.com/.well-known/oauth-protected-resource"',
    },
    body: { error: "invalid_token", error_description: "No authorization provided" },
  },
  documents: {
    "https://mcp.vercel.com/.well-known/oauth-protected-resource": {
      resource: "https://mcp.vercel.com/",
      authorization_servers: ["https://vercel.com"],
      scopes_supported: ["openid"],
      resource_name: "Vercel MCP",
      organization_name: "Vercel",
    },
    "https://vercel.com/.well-known/oauth-authorization-server": {
      issuer: "https://vercel.com",
      authorization_endpoint: "https://vercel.com/oauth/authorize",
      token_endpoint: "https://api.vercel.com/login/oauth/token",
      registration_endpoint: "https://api.vercel.com/login/oauth/register",
      token_endpoint_auth_methods_supported: [
        "client_secret_basic",
        "client_secret_post",
        "client_secret_jwt",
        "private_key_jwt",
      ],
      code_challenge_methods_supported: ["S256"],
      response_modes_supported: ["web_message.opener"],
      response_types_supported: ["code"],
      scopes_supported: ["openid", "email", "profile", "offline_access"],
      grant_types_supported: [
        "authorization_code",
        "client_credentials",
        "refresh_token",
        "urn:ietf:params:oauth:grant-type:device_code",
      ],
      revocation_endpoint: "https://api.vercel.com/login/oauth/token/revoke",
      userinfo_endpoint: "https://api.vercel.com/login/oauth/userinfo",
    },
  },
  registration: {
    refuses: {
      status: 400,
      body: {
        error: "invalid_redirect_uri",
        error_description: "The provided redirect URIs are not approved",
      },
    },
  },
  refusal: {
    says: "(registration_rejected; api.vercel.com answered 400 invalid_redirect_uri)",
    why: "Vercel reviews the clients that may use its server; others are not registered",
  },
} satisfies Upstream as Upstream;
