import type { Upstream } from "../zoo.ts";

export default {
  title: "Atlassian (v1)",
  habit:
    "Its metadata names another host as issuer than the one that serves it; token and registration are on that host",
  sources: [
    { url: "https://github.com/atlassian/atlassian-mcp-server/issues/205", date: "2026-07-29" },
    { url: "https://github.com/atlassian/atlassian-mcp-server/issues/148", date: "2026-07-29" },
  ],
  looked: "2026-11-28",
  to: "https://mcp.atlassian.com/v1/mcp",
  settings: { expected_issuer: "https://cf.mcp.atlassian.com" },
  documents: {
    "https://mcp.atlassian.com/.well-known/oauth-authorization-server": {
      issuer: "https://cf.mcp.atlassian.com",
      authorization_endpoint: "https://mcp.atlassian.com/v1/authorize",
      token_endpoint: "https://cf.mcp.atlassian.com/v1/token",
      registration_endpoint: "https://cf.mcp.atlassian.com/v1/register",
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "none"],
      code_challenge_methods_supported: ["plain", "S256"],
    },
  },
} satisfies Upstream as Upstream;
