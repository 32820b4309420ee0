import type { Client } from "../catalog.ts";

export default {
  title: "Goose",
  habit: "A metadata document with IPv6 loopback, and members of server metadata",
  sources: [
    { url: "https://goose-docs.ai/oauth/client-metadata.json", date: "2026-07-29" },
    {
      url: "https://github.com/block/goose/blob/06423fd5f56dd53e51ef0c3550fd932cc15e50dd/crates/goose/src/oauth/mod.rs",
      date: "2026-08",
    },
  ],
  looked: "2026-11-28",
  discoveryHeaders: { "mcp-protocol-version": "2024-11-05" },
  discovers: ["challenge", "resource-path", "resource-root"],
  metadata: ["oauth-authorization-server", "openid-configuration"],
  document: {
    url: "https://goose-docs.ai/oauth/client-metadata.json",
    body: {
      client_id: "https://goose-docs.ai/oauth/client-metadata.json",
      client_name: "goose",
      redirect_uris: ["http://127.0.0.1/oauth_callback", "http://[::1]/oauth_callback"],
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
      token_endpoint_auth_method: "none",
      code_challenge_methods_supported: ["S256"],
    },
  },
  redirectUri: "http://127.0.0.1:41777/oauth_callback",
  protocolVersion: "2025-03-26",
  headers: { "mcp-protocol-version": "2025-03-26" },
} satisfies Client as Client;
