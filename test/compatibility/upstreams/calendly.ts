import type { Upstream } from "../zoo.ts";

export default {
  title: "Calendly",
  habit: "Public clients only; the issuer is named with a slash; metadata of the MCP host is 404",
  sources: [
    { url: "https://mcp.calendly.com/.well-known/oauth-protected-resource", date: "2026-09-30" },
    { url: "https://calendly.com/.well-known/oauth-authorization-server", date: "2026-09-30" },
  ],
  looked: "2026-11-28",
  to: "https://mcp.calendly.com/",
  documents: {
    "https://mcp.calendly.com/.well-known/oauth-protected-resource": {
      resource: "https://mcp.calendly.com",
      authorization_servers: ["https://calendly.com/"],
      scopes_supported: ["mcp:scheduling:read", "mcp:scheduling:write"],
    },
    "https://calendly.com/.well-known/oauth-authorization-server": {
      issuer: "https://calendly.com/",
      authorization_endpoint: "https://calendly.com/oauth/authorize",
      token_endpoint: "https://calendly.com/oauth/token",
      registration_endpoint: "https://calendly.com/oauth/register",
      token_endpoint_auth_methods_supported: ["none"],
      code_challenge_methods_supported: ["S256"],
    },
  },
} satisfies Upstream as Upstream;
