import type { Upstream } from "../catalog.ts";

export default {
  title: "Slack, a custom app",
  habit:
    "The user's token is under authed_user with type user; scopes are sent as user_scope, separated by commas; errors with status 200",
  sources: [
    { url: "https://docs.slack.dev/reference/methods/oauth.v2.access", date: "2026-11-29" },
    { url: "https://docs.slack.dev/authentication/using-token-rotation", date: "2026-11-29" },
    { url: "https://github.com/slackapi/node-slack-sdk/issues/2038", date: "2024-09-25" },
  ],
  looked: "2026-11-29",
  to: "https://slack-tools.example.net/mcp",
  settings: {
    upstream_oauth2: {
      client_id: "987654.321",
      client_secret: "slack-app-secret",
      endpoint: {
        auth_url: "https://slack.com/oauth/v2/authorize",
        token_url: "https://slack.com/api/oauth.v2.access",
        auth_style: "client_secret_post",
      },
      authorization_url_params: { user_scope: "channels:history,chat:write", resource: "" },
    },
  },
  authorization: { wants: { user_scope: "channels:history,chat:write" }, refuses: ["scope"] },
  token: {
    methods: ["client_secret_post", "client_secret_basic"],
    first: {
      ok: true,
      app_id: "A0KRD7HC3",
      team: { id: "T9TK3CUKW", name: "Slack Softball Team" },
      enterprise: null,
      authed_user: {
        id: "U1234",
        scope: "channels:history,chat:write",
        access_token: "$access_token",
        token_type: "user",
        expires_in: 43200,
        refresh_token: "$refresh_token",
      },
    },
    refreshed: {
      ok: true,
      access_token: "$access_token",
      token_type: "user",
      expires_in: 43200,
      refresh_token: "$refresh_token",
      scope: "channels:history,chat:write",
      team: { id: "T9TK3CUKW" },
    },
    refused: { status: 200, body: { ok: false, error: "invalid_refresh_token" } },
  },
} satisfies Upstream as Upstream;
