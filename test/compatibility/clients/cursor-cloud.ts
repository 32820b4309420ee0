import type { Client } from "../catalog.ts";

export default {
  title: "Cursor's agents",
  habit: "The web callback; the metadata document has only the redirect URI",
  sources: [{ url: "https://cursor.com/docs/context/mcp", date: "2026-07-29" }],
  looked: "2026-11-28",
  registers: {
    redirect_uris: ["https://www.cursor.com/agents/mcp/oauth/callback", "http://localhost:8787/callback"],
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
  },
  guessed: ["registers"],
} satisfies Client as Client;
