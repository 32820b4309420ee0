import type { Client } from "../catalog.ts";

export default {
  title: "Microsoft Copilot Studio",
  habit: "A separate callback per tool, with the tool's name in it; public, with PKCE; no scopes",
  sources: [
    { url: "https://github.com/SmartBear/smartbear-mcp/issues/463", date: "2026-07-31" },
    { url: "https://github.com/microsoft/PowerPlatformConnectors/issues/4214", date: "2026-06-09" },
    { url: "https://github.com/CyberDrain/CIPP/issues/278", date: "2026-08-13" },
    { url: "https://github.com/Teamwork/mcp/issues/67", date: "2025-10-28" },
  ],
  looked: "2026-11-29",
  registers: {
    client_name: "Copilot Studio",
    redirect_uris: ["https://global.consent.azure-apim.net/redirect/cr938-5fnotes-20mcp-5f43bcb8573bc3e84"],
    token_endpoint_auth_method: "none",
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
  },
  discovers: ["resource-path", "resource-root"],
  authorize: { state: "s", resource: "$resource" },
  guessed: ["registers.client_name", "authorize.resource"],
} satisfies Client as Client;
