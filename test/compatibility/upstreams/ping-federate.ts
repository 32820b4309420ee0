import type { Upstream } from "../catalog.ts";

export default {
  title: "PingFederate",
  habit:
    "Endpoints that end in .oauth2; a virtual issuer with a path; registration is off, or requires an initial access token",
  sources: [
    {
      url: "https://docs.pingidentity.com/pingfederate/latest/developers_reference_guide/pf_oauth_authorization_server_metadata_endpoint.html",
      date: "2026-11-29",
    },
    {
      url: "https://docs.pingidentity.com/pingfederate/latest/developers_reference_guide/pf_openid_provider_config_endpoint.html",
      date: "2026-11-29",
    },
    {
      url: "https://docs.pingidentity.com/pingfederate/latest/developers_reference_guide/pf_dynamic_registra_endpoint.html",
      date: "2026-11-29",
    },
  ],
  looked: "2026-11-29",
  to: "https://tools.ping-customer.example/mcp",
  settings: { upstream_oauth2: { client_id: "mcp_gateway", client_secret: "ping-secret" } },
  documents: {
    "https://tools.ping-customer.example/.well-known/oauth-protected-resource/mcp": {
      resource: "https://tools.ping-customer.example/mcp",
      authorization_servers: ["https://sso.ping-customer.example/issuer1"],
    },
    "https://sso.ping-customer.example/.well-known/oauth-authorization-server/issuer1": {
      issuer: "https://sso.ping-customer.example/issuer1",
      authorization_endpoint: "https://sso.ping-customer.example/as/authorization.oauth2",
      token_endpoint: "https://sso.ping-customer.example/as/token.oauth2",
      revocation_endpoint: "https://sso.ping-customer.example/as/revoke_token.oauth2",
      introspection_endpoint: "https://sso.ping-customer.example/as/introspect.oauth2",
      registration_endpoint: "https://sso.ping-customer.example/as/clients.oauth2",
      backchannel_authentication_endpoint: "https://sso.ping-customer.example/as/bc-auth.ciba",
      backchannel_token_delivery_modes_supported: ["poll", "ping"],
      backchannel_user_code_parameter_supported: true,
      claims_parameter_supported: false,
      code_challenge_methods_supported: ["plain", "S256"],
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "private_key_jwt"],
    },
  },
  registration: { refuses: { status: 401, body: { error: "invalid_token" } } },
  guessed: ["documents (token_endpoint_auth_methods_supported)", "registration.refuses.body"],
} satisfies Upstream as Upstream;
