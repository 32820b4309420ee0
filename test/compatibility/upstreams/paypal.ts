import type { Upstream } from "../zoo.ts";

export default {
  title: "PayPal",
  habit: "Everything on one host; the same stack as Square and Dodo Payments",
  sources: [
    { url: "https://mcp.paypal.com/.well-known/oauth-authorization-server", date: "2026-09-30" },
    { url: "https://github.com/paypal/paypal-mcp-server/issues/6", date: "2026-07-26" },
    { url: "https://github.com/Azure/mcp-center/issues/8", date: "2025-10-15" },
  ],
  looked: "2026-11-28",
  to: "https://mcp.paypal.com/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer realm="OAuth", error="invalid_token", error_description="Missing or invalid access token", resource_metadata="https://mcp.paypal.com/.well-known/oauth-protected-resource/mcp"',
    },
  },
  documents: {
    "https://mcp.paypal.com/.well-known/oauth-protected-resource/mcp": {
      resource: "https://mcp.paypal.com/mcp",
      authorization_servers: ["https://mcp.paypal.com"],
    },
    "https://mcp.paypal.com/.well-known/oauth-authorization-server": {
      issuer: "https://mcp.paypal.com",
      authorization_endpoint: "https://mcp.paypal.com/authorize",
      token_endpoint: "https://mcp.paypal.com/token",
      registration_endpoint: "https://mcp.paypal.com/register",
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "none"],
      code_challenge_methods_supported: ["plain", "S256"],
      revocation_endpoint: "https://mcp.paypal.com/token",
    },
  },
} satisfies Upstream as Upstream;
