import type { Upstream } from "../catalog.ts";

export default {
  title: "GitHub, an OAuth app",
  habit:
    "No registration; a resource with a trailing slash; tokens do not expire and have no refresh token; scopes separated by commas; sends iss",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/dc7eb18ef38c313eadd851a20ddad7c525a86920/tests/fixtures/oauth/mcp/github.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/github/docs/blob/029b09ac7206a46ede804fd54fa6273376490c3c/content/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps.md",
      date: "2026-11-29",
    },
  ],
  looked: "2026-11-29",
  to: "https://api.githubcopilot.com/mcp/",
  settings: {
    upstream_oauth2: {
      client_id: "Ov23liOurOAuthApp",
      client_secret: "github-secret",
    },
  },
  unauthorized: {
    status: 401,
    headers: {
      "content-type": "text/plain; charset=utf-8",
      "www-authenticate":
        'Bearer error="invalid_request", error_description="No access token was provided in this request", resource_metadata="https://api.githubcopilot.com/.well-known/oauth-protected-resource/mcp/"',
    },
    body: "bad request: missing required Authorization header\n",
  },
  documents: {
    "https://api.githubcopilot.com/.well-known/oauth-protected-resource/mcp/": {
      resource: "https://api.githubcopilot.com/mcp/",
      authorization_servers: ["https://github.com/login/oauth"],
      scopes_supported: [
        "repo",
        "read:org",
        "read:user",
        "user:email",
        "read:packages",
        "write:packages",
        "read:project",
        "project",
        "gist",
        "notifications",
      ],
      bearer_methods_supported: ["header"],
      resource_name: "GitHub MCP Server",
    },
    "https://github.com/.well-known/oauth-authorization-server/login/oauth": {
      issuer: "https://github.com/login/oauth",
      authorization_endpoint: "https://github.com/login/oauth/authorize",
      token_endpoint: "https://github.com/login/oauth/access_token",
      response_types_supported: ["code"],
      grant_types_supported: [
        "authorization_code",
        "refresh_token",
        "urn:ietf:params:oauth:grant-type:device_code",
      ],
      code_challenge_methods_supported: ["S256"],
      device_authorization_endpoint: "https://github.com/login/device/code",
      authorization_response_iss_parameter_supported: true,
      scopes_supported: ["offline_access"],
    },
  },
  token: {
    methods: ["client_secret_post", "client_secret_basic"],
    first: {
      access_token: "$access_token",
      token_type: "bearer",
      scope: "repo,gist",
    },
    refreshes: false,
  },
} satisfies Upstream as Upstream;
