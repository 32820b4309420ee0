import type { Client } from "../catalog.ts";

export default {
  title: "Claude.ai, by its document",
  habit: "A metadata document with callbacks on claude.ai and claude.com, without an authentication method",
  sources: [
    { url: "https://claude.ai/oauth/mcp-oauth-client-metadata", date: "2026-10-02" },
    { url: "https://claude.com/docs/connectors/building/troubleshooting", date: "2026-07-29" },
  ],
  looked: "2026-11-28",
  document: {
    url: "https://claude.ai/oauth/mcp-oauth-client-metadata",
    body: {
      client_id: "https://claude.ai/oauth/mcp-oauth-client-metadata",
      client_name: "Claude",
      redirect_uris: ["https://claude.ai/api/mcp/auth_callback", "https://claude.com/api/mcp/auth_callback"],
    },
  },
} satisfies Client as Client;
