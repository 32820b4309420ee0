import type { Client } from "../catalog.ts";

export default {
  title: "Gemini CLI",
  habit: "Registers with an empty scope; localhost by name",
  sources: [
    {
      url: "https://github.com/google-gemini/gemini-cli/blob/5411f113ca/packages/core/src/mcp/oauth-provider.ts",
      date: "2026-08-21",
    },
  ],
  looked: "2026-11-28",
  registers: {
    client_name: "Gemini CLI MCP Client",
    redirect_uris: ["http://localhost:7777/oauth/callback"],
    token_endpoint_auth_method: "none",
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    scope: "",
  },
  authorize: { state: "c29tZS1zdGF0ZQ", scope: "mcp", resource: "$resource" },
} satisfies Client as Client;
