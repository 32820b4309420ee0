import type { Config } from "../config/config.ts";

const clientAuthMethods = ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"];
const assertionAlgorithms = [
  "ES256",
  "ES384",
  "ES512",
  "PS256",
  "PS384",
  "PS512",
  "RS256",
  "RS384",
  "RS512",
  "EdDSA",
];

/**
 * Our metadata (RFC 8414, OpenID Connect Discovery 1.0): everything named here answers (F8.9). `routeOrigin` is set on a route
 * host, for clients of the 2025-03-26 revision: their authorization endpoint there knows which resource they mean.
 */
export function authorizationServerMetadata(config: Config, routeOrigin?: string): Record<string, unknown> {
  const { issuer, paths, authorizationServer } = config;
  return {
    issuer,
    authorization_endpoint: routeOrigin
      ? `${routeOrigin}${paths.prefix}/mcp/authorize`
      : `${issuer}/oauth/authorize`,
    token_endpoint: `${issuer}/oauth/token`,
    ...(authorizationServer.dynamicClientRegistration && {
      registration_endpoint: `${issuer}/oauth/register`,
    }),
    revocation_endpoint: `${issuer}/oauth/revoke`,
    introspection_endpoint: `${issuer}/oauth/introspect`,
    jwks_uri: `${issuer}/oauth/jwks`,
    scopes_supported: ["mcp"],
    response_types_supported: ["code"],
    response_modes_supported: ["query"],
    grant_types_supported: ["authorization_code", "refresh_token"],
    code_challenge_methods_supported: ["S256"],
    token_endpoint_auth_methods_supported: clientAuthMethods,
    token_endpoint_auth_signing_alg_values_supported: assertionAlgorithms,
    revocation_endpoint_auth_methods_supported: clientAuthMethods,
    revocation_endpoint_auth_signing_alg_values_supported: assertionAlgorithms,
    introspection_endpoint_auth_methods_supported: clientAuthMethods,
    introspection_endpoint_auth_signing_alg_values_supported: assertionAlgorithms,
    authorization_response_iss_parameter_supported: true,
    ...(authorizationServer.clientIdMetadataDocument && { client_id_metadata_document_supported: true }),
    subject_types_supported: ["public"],
    id_token_signing_alg_values_supported: ["ES256"],
  };
}
