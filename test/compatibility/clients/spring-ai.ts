import type { Client } from "../catalog.ts";

export default {
  title: "Spring AI, Java SDK",
  habit: "Registers only one grant type and a callback; never refreshes",
  sources: [
    {
      url: "https://github.com/spring-ai-community/mcp-security/blob/45bc387c8184e6d1507593fbd850d1a4352157cd/mcp-client-security/src/main/java/org/springaicommunity/mcp/security/client/sync/config/McpClientOAuth2Configurer.java",
      date: "2026-05-12",
    },
  ],
  looked: "2026-11-29",
  registers: {
    grant_types: ["authorization_code"],
    redirect_uris: ["http://localhost:8080/authorize/oauth2/code/notes"],
  },
  discovers: ["challenge", "resource-path", "resource-root"],
  metadata: ["oauth-authorization-server", "openid-configuration"],
  token: { method: "client_secret_basic", parameters: { resource: "$resource" } },
  refresh: false,
} satisfies Client as Client;
