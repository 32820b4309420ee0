import type { Client } from "../catalog.ts";

export default {
  title: "Claude Code",
  habit: "A metadata document with loopback callbacks without a port; it listens on another port each time",
  sources: [
    { url: "https://claude.ai/oauth/claude-code-client-metadata", date: "2026-07-29" },
    { url: "https://claude.com/docs/connectors/building/authentication", date: "2026-07-29" },
  ],
  looked: "2026-11-28",
  document: {
    url: "https://claude.ai/oauth/claude-code-client-metadata",
    body: {
      client_id: "https://claude.ai/oauth/claude-code-client-metadata",
      client_name: "Claude Code",
      client_uri: "https://claude.ai",
      redirect_uris: ["http://localhost/callback", "http://127.0.0.1/callback"],
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
      token_endpoint_auth_method: "none",
    },
  },
  redirectUri: "http://localhost:3118/callback",
  protocolVersion: "2025-11-25",
} satisfies Client as Client;
