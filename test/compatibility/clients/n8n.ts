import type { Client } from "../catalog.ts";

export default {
  title: "n8n",
  habit: "A public client, because S256 is listed; scopes from the authorization server's metadata",
  sources: [
    {
      url: "https://github.com/n8n-io/n8n/blob/001b24039a89322fc55ab21938101ac4e53235e7/packages/cli/src/oauth/oauth.service.ts",
      date: "2026-07-29",
    },
  ],
  looked: "2026-11-29",
  registers: {
    client_name: "n8n",
    redirect_uris: ["https://n8n.example.net/rest/oauth2-credential/callback"],
    token_endpoint_auth_method: "none",
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    client_uri: "https://n8n.io/",
    scope: "mcp",
  },
  authorize: { state: "eyJ0b2tlbiI6IjEifQ==", scope: "mcp", resource: "$resource" },
} satisfies Client as Client;
