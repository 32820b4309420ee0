import type { Client } from "../catalog.ts";

export default {
  title: "Claude.ai and connectors of Claude Desktop, registered",
  habit: "Registers as a confidential client that sends its secret in the body, from a server (python-httpx)",
  sources: [
    { url: "https://github.com/anthropics/claude-ai-mcp/issues/1043", date: "2026-09-15" },
    { url: "https://github.com/anthropics/claude-code/issues/5826", date: "2025-11-22" },
    { url: "https://claude.com/docs/connectors/building/authentication", date: "2026-07-29" },
    {
      url: "https://docs.zuora.com/zuora-ai/zuora-mcp-server/zuora-mcp-server/configure-zuora-remote-mcp-server/redirect-uris-by-mcp-client",
      date: "2026-11-29",
    },
  ],
  looked: "2026-11-28",
  registers: {
    client_name: "Claude",
    redirect_uris: ["https://claude.ai/api/mcp/auth_callback"],
    token_endpoint_auth_method: "client_secret_post",
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
  },
  token: { method: "client_secret_post", headers: { "user-agent": "python-httpx/0.28.1" } },
  discovers: ["resource-path", "resource-root"],
  headers: { "user-agent": "python-httpx/0.28.1" },
  protocolVersion: "2025-06-18",
} satisfies Client as Client;
