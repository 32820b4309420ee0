import type { Upstream } from "../zoo.ts";

export default {
  title: "Salesforce",
  habit: "A token without a lifetime; the same refresh token for ever; a refresh answers without one",
  sources: [
    {
      url: "https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_web_server_flow.htm",
      date: "2026-09",
    },
    { url: "https://github.com/dust-tt/dust/pull/20853", date: "2026-01-30" },
  ],
  looked: "2026-11-28",
  to: "https://crm-tools.example.net/mcp",
  settings: {
    upstream_oauth2: {
      client_id: "3MVG9.connected-app",
      client_secret: "salesforce-secret",
      scopes: ["api", "refresh_token"],
      endpoint: {
        auth_url: "https://login.salesforce.com/services/oauth2/authorize",
        token_url: "https://login.salesforce.com/services/oauth2/token",
        auth_style: "client_secret_post",
      },
    },
  },
  token: {
    methods: ["client_secret_post", "client_secret_basic"],
    rotates: false,
    first: {
      access_token: "$access_token",
      refresh_token: "$refresh_token",
      signature: "c2ln",
      scope: "api refresh_token",
      instance_url: "https://acme.my.salesforce.com",
      id: "https://login.salesforce.com/id/00D/005",
      token_type: "Bearer",
      issued_at: "1795906800000",
    },
    refused: {
      status: 400,
      body: { error: "invalid_grant", error_description: "expired access/refresh token" },
    },
  },
} satisfies Upstream as Upstream;
