import type { Upstream } from "../catalog.ts";

export default {
  title: "Atlassian (v1/mcp/authv2), as it was in July 2026",
  habit: "The resource metadata names an issuer with a path, whose own metadata dropped the path",
  sources: [
    {
      url: "https://github.com/anomalyco/opencode/issues/39332",
      date: "2026-07-28",
    },
    {
      url: "https://github.com/willdady/platypus/issues/394",
      date: "2026-07-31",
    },
    {
      url: "https://github.com/atlassian/atlassian-mcp-server/issues/205",
      date: "2026-07-29",
    },
    {
      url: "https://github.com/nicobailon/pi-mcp-adapter/issues/224",
      date: "2026-07-27",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.atlassian.com/v1/mcp/authv2",
  settings: {
    expected_issuer: "https://auth.atlassian.com",
  },
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer resource_metadata="https://mcp.atlassian.com/.well-known/oauth-protected-resource/v1/mcp/authv2", error="invalid_token"',
    },
  },
  // Its paths on auth.atlassian.com are stand-ins: the real ones are those of atlassian-v2.ts, which answer otherwise since.
  documents: {
    "https://mcp.atlassian.com/.well-known/oauth-protected-resource/v1/mcp/authv2": {
      resource: "https://mcp.atlassian.com/v1/mcp/authv2",
      authorization_servers: ["https://auth.atlassian.com/July2026"],
    },
    "https://auth.atlassian.com/.well-known/oauth-authorization-server/July2026": {
      issuer: "https://auth.atlassian.com",
      authorization_endpoint: "https://auth.atlassian.com/July2026/authorize",
      token_endpoint: "https://auth.atlassian.com/July2026/oauth/token",
      registration_endpoint: "https://auth.atlassian.com/July2026/dcr/register",
      code_challenge_methods_supported: ["S256"],
    },
  },
} satisfies Upstream as Upstream;
