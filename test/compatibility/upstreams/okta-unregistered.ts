import type { Upstream } from "../catalog.ts";

export default {
  title: "Okta, without a client",
  habit: "Rejects registration without an administrator's token, with a non-OAuth error",
  sources: [
    { url: "https://github.com/modelcontextprotocol/modelcontextprotocol/issues/695", date: "2025-06-10" },
    { url: "https://developer.okta.com/docs/api/openapi/okta-oauth/oauth/tag/CustomAS", date: "2026-11-29" },
  ],
  looked: "2026-11-29",
  to: "https://files.okta-customer.example/mcp",
  documents: {
    "https://files.okta-customer.example/.well-known/oauth-protected-resource/mcp": {
      resource: "https://files.okta-customer.example/mcp",
      authorization_servers: ["https://other.okta.com/oauth2/default"],
    },
    "https://other.okta.com/.well-known/oauth-authorization-server/oauth2/default": {
      issuer: "https://other.okta.com/oauth2/default",
      authorization_endpoint: "https://other.okta.com/oauth2/default/v1/authorize",
      token_endpoint: "https://other.okta.com/oauth2/default/v1/token",
      registration_endpoint: "https://other.okta.com/oauth2/v1/clients",
      scopes_supported: ["openid", "offline_access"],
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "none"],
      code_challenge_methods_supported: ["S256"],
    },
  },
  registration: {
    refuses: { status: 403, body: { errorCode: "E0000006", errorSummary: "You do not have permission" } },
  },
  guessed: ["registration.refuses.body"],
  refusal: {
    says: "(registration_rejected; other.okta.com answered 403); the operator of this gateway registers a client there by hand",
    why: "Okta registers clients only for administrators; with a client_id in the route it works",
  },
} satisfies Upstream as Upstream;
