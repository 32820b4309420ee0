import type { Upstream } from "../catalog.ts";

export default {
  title: "PingOne, a client by hand",
  habit:
    "Endpoints under the environment's id and /as; PKCE for public clients only; a refresh token for offline_access, usable once",
  sources: [
    {
      url: "https://developer.pingidentity.com/pingone-api/foundations/authentication-concepts/authorization-flow-by-grant-type/pkce-parameters.html",
      date: "2026-11-29",
    },
    {
      url: "https://developer.pingidentity.com/pingone-api/auth/openid-connect-oauth-2/authorize-intro.html",
      date: "2026-11-29",
    },
    {
      url: "https://docs.pingidentity.com/pingone/applications/p1_refresh_token_rotation.html",
      date: "2026-11-29",
    },
  ],
  looked: "2026-11-29",
  to: "https://tools.pingone-customer.example/mcp",
  settings: {
    upstream_oauth2: {
      client_id: "33333333-3333-4333-8333-333333333333",
      scopes: ["openid", "offline_access"],
      endpoint: {
        auth_url: "https://auth.pingone.com/44444444-4444-4444-8444-444444444444/as/authorize",
        token_url: "https://auth.pingone.com/44444444-4444-4444-8444-444444444444/as/token",
      },
    },
  },
  authorization: { wants: { scope: "openid offline_access" } },
  token: { methods: ["none"] },
} satisfies Upstream as Upstream;
