import type { Upstream } from "../zoo.ts";

export default {
  title: "Stripe",
  habit: "resource_metadata without quotes in the challenge; an issuer with a path",
  sources: [
    { url: "https://docs.stripe.com/mcp", date: "2026-09-30" },
    { url: "https://access.stripe.com/.well-known/oauth-authorization-server/mcp", date: "2026-09-30" },
    {
      url: "https://public-agents.com/evidence/p-20260917-stripe-mcp-unauthenticated.json",
      date: "2026-09-19",
    },
  ],
  looked: "2026-11-28",
  to: "https://mcp.stripe.com/",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        "Bearer resource_metadata=https://mcp.stripe.com/.well-known/oauth-protected-resource",
    },
    body: { error: "Unauthorized. See https://docs.stripe.com/mcp for usage instructions." },
  },
  documents: {
    "https://mcp.stripe.com/.well-known/oauth-protected-resource": {
      resource: "https://mcp.stripe.com",
      authorization_servers: ["https://access.stripe.com/mcp"],
    },
    "https://access.stripe.com/.well-known/oauth-authorization-server/mcp": {
      issuer: "https://access.stripe.com/mcp",
      authorization_endpoint: "https://access.stripe.com/mcp/oauth2/authorize",
      token_endpoint: "https://access.stripe.com/mcp/oauth2/token",
      registration_endpoint: "https://access.stripe.com/mcp/oauth2/register",
      token_endpoint_auth_methods_supported: ["none"],
      code_challenge_methods_supported: ["S256"],
    },
  },
} satisfies Upstream as Upstream;
