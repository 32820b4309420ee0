import type { Upstream } from "../catalog.ts";

export default {
  title: "Keycloak",
  habit:
    "Metadata only below the realm, as in OpenID Connect; the token response has the refresh token's lifetime and non-standard members",
  sources: [{ url: "https://www.keycloak.org/docs/latest/securing_apps/", date: "2026-09" }],
  looked: "2026-11-28",
  to: "https://tools.realm.example/mcp",
  settings: { upstream_oauth2: { client_id: "mcp-gateway", client_secret: "keycloak-secret" } },
  documents: {
    "https://tools.realm.example/.well-known/oauth-protected-resource/mcp": {
      resource: "https://tools.realm.example/mcp",
      authorization_servers: ["https://id.realm.example/realms/acme"],
    },
    "https://id.realm.example/realms/acme/.well-known/openid-configuration": {
      issuer: "https://id.realm.example/realms/acme",
      authorization_endpoint: "https://id.realm.example/realms/acme/protocol/openid-connect/auth",
      token_endpoint: "https://id.realm.example/realms/acme/protocol/openid-connect/token",
      registration_endpoint: "https://id.realm.example/realms/acme/clients-registrations/openid-connect",
      token_endpoint_auth_methods_supported: [
        "private_key_jwt",
        "client_secret_basic",
        "client_secret_post",
        "tls_client_auth",
        "client_secret_jwt",
      ],
      code_challenge_methods_supported: ["plain", "S256"],
    },
  },
  token: {
    first: {
      access_token: "$access_token",
      expires_in: 300,
      refresh_expires_in: 1800,
      refresh_token: "$refresh_token",
      token_type: "Bearer",
      "not-before-policy": 0,
      session_state: "779cbac3-4e2a-4921-91cd-0e018f112ed9",
      scope: "profile email",
    },
  },
  guessed: ["documents (plain among the methods, tls_client_auth)"],
} satisfies Upstream as Upstream;
