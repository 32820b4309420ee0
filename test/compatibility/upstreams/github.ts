import type { Upstream } from "../zoo.ts";

export default {
  title: "GitHub, an OAuth app",
  habit: "No registration; a token that does not expire and has no refresh token; scopes with commas",
  sources: [
    {
      url: "https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps",
      date: "2026-09",
    },
    { url: "https://github.com/github/github-mcp-server/issues/2532", date: "2026-05-27" },
    { url: "https://github.com/mark3labs/mcp-go/issues/643", date: "2026-04-13" },
    { url: "https://api.githubcopilot.com/.well-known/oauth-protected-resource/mcp/", date: "2026-09" },
  ],
  looked: "2026-11-28",
  to: "https://api.githubcopilot.com/mcp",
  settings: { upstream_oauth2: { client_id: "Ov23liOurOAuthApp", client_secret: "github-secret" } },
  documents: {
    "https://api.githubcopilot.com/.well-known/oauth-protected-resource/mcp": {
      resource: "https://api.githubcopilot.com/mcp",
      authorization_servers: ["https://github.com/login/oauth"],
      scopes_supported: ["repo", "read:user", "read:org"],
      bearer_methods_supported: ["header"],
      resource_name: "GitHub MCP Server",
    },
    "https://github.com/.well-known/oauth-authorization-server/login/oauth": {
      issuer: "https://github.com/login/oauth",
      authorization_endpoint: "https://github.com/login/oauth/authorize",
      token_endpoint: "https://github.com/login/oauth/access_token",
      code_challenge_methods_supported: ["S256"],
    },
  },
  token: {
    methods: ["client_secret_post", "client_secret_basic"],
    first: { access_token: "$access_token", token_type: "bearer", scope: "read:org,read:user,repo" },
    refreshes: false,
  },
} satisfies Upstream as Upstream;
