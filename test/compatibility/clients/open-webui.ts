import type { Client } from "../catalog.ts";

export default {
  title: "Open WebUI",
  habit: "No authentication method in its registration; sends its secret in the body",
  sources: [
    {
      url: "https://github.com/open-webui/open-webui/blob/main/backend/open_webui/utils/oauth.py",
      date: "2026-07",
    },
  ],
  looked: "2026-11-28",
  registers: {
    client_name: "Open WebUI",
    redirect_uris: ["https://webui.example.net/oauth/clients/mcp:files/callback"],
    token_endpoint_auth_method: "client_secret_post",
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
  },
  token: { method: "client_secret_post" },
  guessed: ["registers.token_endpoint_auth_method"],
} satisfies Client as Client;
