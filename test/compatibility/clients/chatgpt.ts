import type { Client } from "../catalog.ts";

export default {
  title: "ChatGPT",
  habit: "Requests the origin as resource, whatever the server's path; a separate callback per connector",
  sources: [
    { url: "https://developers.openai.com/apps-sdk/build/auth", date: "2026-07-29" },
    { url: "https://github.com/BasedHardware/omi/pull/8824", date: "2026-07-02" },
  ],
  looked: "2026-11-29",
  routePath: "/mcp",
  registers: {
    client_name: "ChatGPT",
    redirect_uris: ["https://chatgpt.com/connector/oauth/OUbdUMlL15Ct"],
    token_endpoint_auth_method: "none",
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
  },
  authorize: { state: "oauth_s_1", resource: "$origin" },
  token: { parameters: { resource: "$origin" } },
  refresh: { resource: "$origin" },
  discovers: ["resource-root"],
  guessed: ["registers.client_name"],
} satisfies Client as Client;
