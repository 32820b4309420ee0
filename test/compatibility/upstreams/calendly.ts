import type { Upstream } from "../catalog.ts";

export default {
  title: "Calendly",
  habit:
    "Public clients only; an issuer with a trailing slash; the challenge to a request without a token is invalid_token",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/8ac9c68ce886eeb1d9289c22f3269b171e2549c2/tests/fixtures/oauth/mcp/calendly.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/api-evangelist/calendly/blob/47b879f976682ec62bf8f46443d3b075c3c51204/well-known/calendly-calendly-oauth-authorization-server.json",
      date: "2026-09-19",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.calendly.com/",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer error="invalid_token", error_description="Authentication failed. The provided bearer token is invalid, expired, or no longer recognized by the server.", resource_metadata="https://mcp.calendly.com/.well-known/oauth-protected-resource"',
    },
  },
  documents: {
    "https://mcp.calendly.com/.well-known/oauth-protected-resource": {
      resource: "https://mcp.calendly.com/",
      authorization_servers: ["https://calendly.com/"],
      scopes_supported: ["mcp:scheduling:write", "mcp:scheduling:read"],
      bearer_methods_supported: ["header"],
    },
    "https://calendly.com/.well-known/oauth-authorization-server": {
      issuer: "https://calendly.com/",
      authorization_endpoint: "https://calendly.com/oauth/authorize",
      token_endpoint: "https://calendly.com/oauth/token",
      registration_endpoint: "https://calendly.com/oauth/register",
      response_types_supported: ["code"],
      token_endpoint_auth_methods_supported: ["none"],
      code_challenge_methods_supported: ["S256"],
    },
  },
} satisfies Upstream as Upstream;
