import type { Client } from "../catalog.ts";

export default {
  title: "ChatGPT, by its document",
  habit: "A metadata document per connector; the same resource",
  sources: [
    { url: "https://developers.openai.com/apps-sdk/build/auth", date: "2026-07-29" },
    { url: "https://github.com/BasedHardware/omi/pull/8824", date: "2026-07-02" },
  ],
  looked: "2026-11-28",
  routePath: "/mcp",
  document: {
    url: "https://chatgpt.com/oauth/OUbdUMlL15Ct/client.json",
    body: {
      client_id: "https://chatgpt.com/oauth/OUbdUMlL15Ct/client.json",
      redirect_uris: [
        "https://chatgpt.com/connector/oauth/OUbdUMlL15Ct",
        "https://chatgpt.com/connector_platform_oauth_redirect",
      ],
      token_endpoint_auth_method: "none",
    },
  },
  authorize: { state: "oauth_s_1", resource: "$origin" },
  token: { parameters: { resource: "$origin" } },
  refresh: { resource: "$origin" },
} satisfies Client as Client;
