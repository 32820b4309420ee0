import type { Upstream } from "../catalog.ts";

export default {
  title: "Salesforce, a sandbox",
  habit: "A token without a lifetime; the refresh token never changes, and a refresh response has none",
  sources: [
    {
      url: "https://developer.salesforce.com/docs/atlas.en-us.214.0.api_placeorder.meta/api_placeorder/intro_understanding_refresh_token_oauth.htm",
      date: "2026-11-29",
    },
    { url: "https://jsforce.github.io/jsforce/types/oauth2.TokenResponse.html", date: "2026-11-29" },
  ],
  looked: "2026-11-29",
  to: "https://crm-tools.example.net/mcp",
  settings: {
    upstream_oauth2: {
      client_id: "3MVG9.connected-app",
      client_secret: "salesforce-secret",
      scopes: ["api", "refresh_token"],
      endpoint: {
        auth_url: "https://test.salesforce.com/services/oauth2/authorize",
        token_url: "https://test.salesforce.com/services/oauth2/token",
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
      id: "https://test.salesforce.com/id/00D/005",
      token_type: "Bearer",
      issued_at: "1795906800000",
    },
    refused: {
      status: 400,
      body: { error: "invalid_grant", error_description: "expired access/refresh token" },
    },
  },
} satisfies Upstream as Upstream;
