import type { Upstream } from "../catalog.ts";

export default {
  title: "Stripe",
  habit: "An issuer with a path; public clients only; the server is at the root",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/8ac9c68ce886eeb1d9289c22f3269b171e2549c2/tests/fixtures/oauth/mcp/stripe.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/api-evangelist/stripe/blob/1b3e380b06dbde698789534ae04c3c3a812ccd33/well-known/stripe-access-oauth-authorization-server.json",
      date: "2026-09-19",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.stripe.com/",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer resource_metadata="https://mcp.stripe.com/.well-known/oauth-protected-resource"',
    },
    body: {
      error: {
        code: "missing_api_key",
      },
    },
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
      revocation_endpoint: "https://access.stripe.com/mcp/oauth2/revoke",
      response_types_supported: ["code"],
      scopes_supported: ["mcp"],
      response_modes_supported: ["query"],
      grant_types_supported: ["authorization_code", "refresh_token"],
      token_endpoint_auth_methods_supported: ["none"],
      code_challenge_methods_supported: ["S256"],
    },
  },
} satisfies Upstream as Upstream;
