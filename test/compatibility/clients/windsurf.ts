import type { Client } from "../catalog.ts";

export default {
  title: "Windsurf",
  habit: "A callback with its own URI scheme, and a loopback one",
  sources: [
    { url: "https://docs.windsurf.com/windsurf/cascade/mcp", date: "2026-11-29" },
    { url: "http://engram.page/docs/integrations/windsurf/", date: "2026-11-29" },
  ],
  looked: "2026-11-29",
  registers: {
    client_name: "Windsurf",
    redirect_uris: ["windsurf://codeium.windsurf-mcp/oauth/callback", "http://localhost:8787/oauth/callback"],
    token_endpoint_auth_method: "none",
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
  },
  guessed: ["registers"],
} satisfies Client as Client;
