import type { Upstream } from "../catalog.ts";

export default {
  title: "Google Cloud",
  habit:
    "No registration and no client id metadata documents; a refresh token only for access_type=offline with a prompt, and only once",
  sources: [
    { url: "https://docs.cloud.google.com/mcp/set-up-authentication-mcp-servers", date: "2026-11-29" },
    { url: "https://developers.google.com/accounts/docs/OAuth", date: "2026-11-29" },
    { url: "https://hackmd.io/@pclin/BJlq95xgF", date: "2026-11-29" },
    {
      url: "https://stackoverflow.com/questions/10827920/not-receiving-google-oauth-refresh-token/65702100",
      date: "2021-01",
    },
  ],
  looked: "2026-11-29",
  to: "https://bigquery.googleapis.com/mcp",
  settings: {
    upstream_oauth2: {
      client_id: "123456789012-abcdef.apps.googleusercontent.com",
      client_secret: "google-secret",
      scopes: ["https://www.googleapis.com/auth/bigquery"],
      endpoint: {
        auth_url: "https://accounts.google.com/o/oauth2/v2/auth",
        token_url: "https://oauth2.googleapis.com/token",
        auth_style: "client_secret_post",
      },
      authorization_url_params: { access_type: "offline", prompt: "consent" },
    },
  },
  authorization: {
    wants: {
      access_type: "offline",
      prompt: "consent",
      scope: "https://www.googleapis.com/auth/bigquery",
    },
  },
  token: {
    methods: ["client_secret_post", "client_secret_basic"],
    rotates: false,
    first: {
      access_token: "$access_token",
      expires_in: 3599,
      refresh_token: "$refresh_token",
      scope: "https://www.googleapis.com/auth/bigquery",
      token_type: "Bearer",
    },
    refused: {
      status: 400,
      body: { error: "invalid_grant", error_description: "Token has been expired or revoked." },
    },
  },
} satisfies Upstream as Upstream;
