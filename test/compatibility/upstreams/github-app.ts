import type { Upstream } from "../catalog.ts";

export default {
  title: "GitHub Enterprise Cloud, a GitHub App",
  habit:
    "Tokens expire after eight hours, refresh tokens rotate; an empty scope, since an app has permissions; errors with status 200 and non-standard codes",
  sources: [
    {
      url: "https://github.com/github/docs/blob/2e15944ca6efa9d1d7524afbf4fa49797f59356c/content/apps/creating-github-apps/authenticating-with-a-github-app/refreshing-user-access-tokens.md",
      date: "2026-11-29",
    },
    { url: "https://github.com/omniauth/omniauth-github/issues/99", date: "2022-01-06" },
    { url: "https://github.com/langchain-ai/open-swe/pull/1491", date: "2026-06-10" },
    {
      url: "https://github.com/github/github-mcp-server/blob/64a49f34d076b6f5917dae1424521d43c7bcae84/README.md",
      date: "2026-08-03",
    },
  ],
  looked: "2026-11-29",
  to: "https://copilot-api.octocorp.ghe.com/mcp",
  settings: {
    upstream_oauth2: {
      client_id: "Iv23liOurGitHubApp",
      client_secret: "github-app-secret",
      endpoint: {
        auth_url: "https://octocorp.ghe.com/login/oauth/authorize",
        token_url: "https://octocorp.ghe.com/login/oauth/access_token",
        auth_style: "client_secret_post",
      },
    },
  },
  authorization: { refuses: ["scope"] },
  token: {
    methods: ["client_secret_post", "client_secret_basic"],
    first: {
      access_token: "$access_token",
      expires_in: 28800,
      refresh_token: "$refresh_token",
      refresh_token_expires_in: 15811200,
      scope: "",
      token_type: "bearer",
    },
    refused: {
      status: 200,
      body: {
        error: "bad_refresh_token",
        error_description: "The refresh token passed is incorrect or expired.",
        error_uri: "https://docs.github.com",
      },
    },
  },
} satisfies Upstream as Upstream;
