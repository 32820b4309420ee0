import type { Upstream } from "../catalog.ts";

export default {
  title: "Salesforce, the hosted MCP server",
  habit:
    "The sign-in host has only OpenID metadata, with mcp_api among three dozen scopes; its registration endpoint is for other purposes",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/f3ceaa6f29495e8aa4c38439cf50a236fd8222a2/tests/fixtures/oauth/idp/salesforce.prm.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/clout2buy/Ares/blob/7ff9cf317834d4a83a42b89e5587af8321e81930/tests/fixtures/oauth/mcp/salesforce-mcp.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/forcedotcom/mcp-hosted/issues/44",
      date: "2026-08-13",
    },
  ],
  looked: "2026-11-29",
  to: "https://api.salesforce.com/platform/mcp/v1/platform/sobject-all",
  settings: {
    upstream_oauth2: {
      client_id: "3MVG9.external-client-app",
      client_secret: "salesforce-hosted-secret",
    },
  },
  documents: {
    "https://api.salesforce.com/.well-known/oauth-protected-resource/platform/mcp/v1/platform/sobject-all": {
      resource: "https://api.salesforce.com/platform/mcp/v1/platform/sobject-all",
      authorization_servers: ["https://login.salesforce.com"],
      scopes_supported: ["mcp_api", "refresh_token"],
    },
    "https://login.salesforce.com/.well-known/openid-configuration": {
      issuer: "https://login.salesforce.com",
      authorization_endpoint: "https://login.salesforce.com/services/oauth2/authorize",
      token_endpoint: "https://login.salesforce.com/services/oauth2/token",
      revocation_endpoint: "https://login.salesforce.com/services/oauth2/revoke",
      userinfo_endpoint: "https://login.salesforce.com/services/oauth2/userinfo",
      jwks_uri: "https://login.salesforce.com/id/keys",
      registration_endpoint: "https://login.salesforce.com/services/oauth2/register",
      introspection_endpoint: "https://login.salesforce.com/services/oauth2/introspect",
      scopes_supported: [
        "api",
        "web",
        "openid",
        "offline_access",
        "id",
        "profile",
        "refresh_token",
        "mcp_api",
        "full",
      ],
      response_types_supported: ["code", "token", "token id_token"],
      subject_types_supported: ["public"],
      id_token_signing_alg_values_supported: ["RS256"],
      dpop_signing_alg_values_supported: ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"],
      display_values_supported: ["page", "popup", "touch"],
      token_endpoint_auth_methods_supported: ["client_secret_post", "client_secret_basic", "private_key_jwt"],
      code_challenge_methods_supported: ["S256"],
      grant_types_supported: ["authorization_code", "refresh_token"],
    },
  },
} satisfies Upstream as Upstream;
