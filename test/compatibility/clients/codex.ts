import type { Client } from "../catalog.ts";

export default {
  title: "Codex",
  habit:
    "Native, on an ephemeral loopback port with a path per server; discovery uses an older protocol version than its calls",
  sources: [
    {
      url: "https://github.com/openai/codex/blob/1ae2b9880e8af5d465161a58f24a127aaa4b0040/codex-rs/rmcp-client/src/perform_oauth_login.rs",
      date: "2026-07-29",
    },
  ],
  looked: "2026-11-28",
  discoveryHeaders: { "mcp-protocol-version": "2024-11-05" },
  discovers: ["challenge", "resource-path", "resource-root"],
  metadata: ["oauth-authorization-server", "openid-configuration"],
  registers: {
    client_name: "Codex",
    redirect_uris: ["http://127.0.0.1:53219/callback/q83vEjRWeJCr"],
    token_endpoint_auth_method: "none",
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    application_type: "native",
  },
  headers: { "user-agent": "codex-mcp-client/0.131.0", "mcp-protocol-version": "2025-06-18" },
  protocolVersion: "2025-06-18",
  token: { parameters: { resource: "$resource" }, headers: { "user-agent": "codex-mcp-client/0.131.0" } },
  guessed: ["registers (the file was not to be opened at its commit)"],
} satisfies Client as Client;
