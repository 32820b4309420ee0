import type { Client } from "../catalog.ts";

export default {
  title: "Zed",
  habit:
    "Listens on an ephemeral port of 127.0.0.1 that its metadata document does not name; no refresh grant",
  sources: [
    { url: "https://zed.dev/oauth/client-metadata.json", date: "2026-07" },
    {
      url: "https://github.com/zed-industries/zed/blob/main/crates/context_server/src/oauth.rs",
      date: "2026-07",
    },
  ],
  looked: "2026-11-28",
  document: {
    url: "https://zed.dev/oauth/client-metadata.json",
    body: {
      client_id: "https://zed.dev/oauth/client-metadata.json",
      client_name: "Zed",
      client_uri: "https://zed.dev",
      logo_uri: "https://zed.dev/img/logo.png",
      redirect_uris: ["http://127.0.0.1/callback"],
      grant_types: ["authorization_code"],
      response_types: ["code"],
      token_endpoint_auth_method: "none",
    },
  },
  redirectUri: "http://127.0.0.1:61234/callback",
  refresh: false,
} satisfies Client as Client;
