import type { Upstream } from "../zoo.ts";

export default {
  title: "Atlassian (v2)",
  habit: "The resource metadata names an issuer with a path, whose own metadata drops the path",
  sources: [
    { url: "https://github.com/anomalyco/opencode/issues/39332", date: "2026-07-31" },
    { url: "https://github.com/willdady/platypus/issues/394", date: "2026-07-31" },
    { url: "https://mcp.atlassian.com/.well-known/oauth-protected-resource/v2/mcp", date: "2026-09-30" },
  ],
  looked: "2026-11-28",
  to: "https://mcp.atlassian.com/v2/mcp",
  settings: { expected_issuer: "https://auth.atlassian.com" },
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer resource_metadata="https://mcp.atlassian.com/.well-known/oauth-protected-resource/v2/mcp"',
    },
  },
  documents: {
    "https://mcp.atlassian.com/.well-known/oauth-protected-resource/v2/mcp": {
      resource: "https://mcp.atlassian.com/v2/mcp",
      authorization_servers: ["https://auth.atlassian.com/VCeDsk8ZHncYF1g234fKtc4lNipbBhu3"],
      scopes_supported: [
        "offline_access",
        "read:me",
        "read:jira:agent-interface",
        "write:jira:agent-interface",
        "search:jira:agent-interface",
      ],
    },
    "https://auth.atlassian.com/.well-known/oauth-authorization-server/VCeDsk8ZHncYF1g234fKtc4lNipbBhu3": {
      issuer: "https://auth.atlassian.com",
      authorization_endpoint: "https://auth.atlassian.com/authorize",
      token_endpoint: "https://auth.atlassian.com/oauth/token",
      registration_endpoint: "https://auth.atlassian.com/VCeDsk8ZHncYF1g234fKtc4lNipbBhu3/dcr/register",
      token_endpoint_auth_methods_supported: ["none"],
      code_challenge_methods_supported: ["S256"],
      client_id_metadata_document_supported: true,
    },
  },
} satisfies Upstream as Upstream;
