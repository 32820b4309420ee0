import type { Upstream } from "../catalog.ts";

export default {
  title: "Okta, a custom authorization server",
  habit: "Its registration endpoint accepts only administrators: register a client by hand",
  sources: [
    { url: "https://developer.okta.com/docs/api/openapi/okta-oauth/oauth/tag/CustomAS", date: "2026-11-29" },
    { url: "https://github.com/modelcontextprotocol/modelcontextprotocol/issues/695", date: "2025-06-10" },
    { url: "https://github.com/envoyproxy/ai-gateway/issues/2074", date: "2026-04-21" },
  ],
  looked: "2026-11-29",
  to: "https://tools.okta-customer.example/mcp",
  settings: {
    upstream_oauth2: { client_id: "0oa1gateway", client_secret: "okta-secret", scopes: ["mcp:tools"] },
  },
  documents: {
    "https://tools.okta-customer.example/.well-known/oauth-protected-resource/mcp": {
      resource: "https://tools.okta-customer.example/mcp",
      authorization_servers: ["https://acme.okta.com/oauth2/aus1default"],
    },
    "https://acme.okta.com/.well-known/oauth-authorization-server/oauth2/aus1default": {
      issuer: "https://acme.okta.com/oauth2/aus1default",
      authorization_endpoint: "https://acme.okta.com/oauth2/aus1default/v1/authorize",
      token_endpoint: "https://acme.okta.com/oauth2/aus1default/v1/token",
      registration_endpoint: "https://acme.okta.com/oauth2/v1/clients",
      response_types_supported: ["code", "token", "id_token", "code id_token"],
      grant_types_supported: ["authorization_code", "refresh_token", "client_credentials"],
      scopes_supported: ["openid", "profile", "email", "offline_access", "mcp:tools"],
      token_endpoint_auth_methods_supported: [
        "client_secret_basic",
        "client_secret_post",
        "client_secret_jwt",
        "private_key_jwt",
        "none",
      ],
      code_challenge_methods_supported: ["S256"],
      revocation_endpoint: "https://acme.okta.com/oauth2/aus1default/v1/revoke",
      introspection_endpoint: "https://acme.okta.com/oauth2/aus1default/v1/introspect",
    },
  },
  registration: {
    refuses: { status: 403, body: { errorCode: "E0000006", errorSummary: "You do not have permission" } },
  },
  authorization: { wants: { scope: "mcp:tools offline_access" } },
  guessed: ["documents (methods)", "registration.refuses.body"],
} satisfies Upstream as Upstream;
