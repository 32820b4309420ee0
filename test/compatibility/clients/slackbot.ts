import type { Client } from "../catalog.ts";

export default {
  title: "Slackbot",
  habit: "A metadata document with a logo on another host",
  sources: [
    { url: "https://slack.com/.well-known/oauth-client-metadata", date: "2026-07-29" },
    { url: "https://docs.slack.dev/ai/slackbot-mcp-client/", date: "2026-07-29" },
  ],
  looked: "2026-11-28",
  document: {
    url: "https://slack.com/.well-known/oauth-client-metadata",
    body: {
      client_id: "https://slack.com/.well-known/oauth-client-metadata",
      client_name: "Slack",
      client_uri: "https://slack.com",
      logo_uri: "https://a.slack-edge.com/80588/marketing/img/icons/icon_slack_hash_colored.png",
      redirect_uris: ["https://oauth2.slack.com/external/auth/callback"],
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
      token_endpoint_auth_method: "none",
    },
  },
  protocolVersion: "2025-06-18",
} satisfies Client as Client;
