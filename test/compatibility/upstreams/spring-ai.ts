import type { Upstream } from "../catalog.ts";

export default {
  title: "Spring AI, Java SDK",
  habit:
    "resource_metadata without quotes in the challenge; open registration next to Spring Authorization Server's endpoints; no OpenID metadata (404); tokens expire after five minutes; a refresh returns the same refresh token",
  sources: [
    {
      url: "https://github.com/spring-ai-community/mcp-security/blob/45bc387c8184e6d1507593fbd850d1a4352157cd/mcp-authorization-server/src/main/java/org/springaicommunity/mcp/security/authorizationserver/config/McpAuthorizationServerConfigurer.java",
      date: "2026-05-12",
    },
    {
      url: "https://github.com/spring-ai-community/mcp-security/blob/45bc387c8184e6d1507593fbd850d1a4352157cd/mcp-server-security/src/main/java/org/springaicommunity/mcp/security/server/oauth2/authentication/BearerResourceMetadataTokenAuthenticationEntryPoint.java",
      date: "2026-05-12",
    },
    {
      url: "https://github.com/spring-projects/spring-authorization-server/blob/b90fb09362aae9eb6ee64e536d0ad7d589af917f/oauth2-authorization-server/src/main/java/org/springframework/security/oauth2/server/authorization/web/OAuth2AuthorizationServerMetadataEndpointFilter.java",
      date: "2026-04-08",
    },
    {
      url: "https://github.com/spring-projects/spring-authorization-server/blob/b90fb09362aae9eb6ee64e536d0ad7d589af917f/oauth2-authorization-server/src/main/java/org/springframework/security/oauth2/server/authorization/settings/TokenSettings.java",
      date: "2026-04-08",
    },
  ],
  looked: "2026-11-29",
  to: "https://spring.example.net/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        "Bearer resource_metadata=https://spring.example.net/.well-known/oauth-protected-resource/mcp",
    },
    body: "",
  },
  documents: {
    "https://spring.example.net/.well-known/oauth-protected-resource/mcp": {
      resource: "https://spring.example.net/mcp",
      authorization_servers: ["https://auth.spring.example.net"],
      resource_name: "Spring MCP Resource Server",
      bearer_methods_supported: ["header"],
    },
    "https://auth.spring.example.net/.well-known/oauth-authorization-server": {
      issuer: "https://auth.spring.example.net",
      authorization_endpoint: "https://auth.spring.example.net/oauth2/authorize",
      device_authorization_endpoint: "https://auth.spring.example.net/oauth2/device_authorization",
      token_endpoint: "https://auth.spring.example.net/oauth2/token",
      jwks_uri: "https://auth.spring.example.net/oauth2/jwks",
      revocation_endpoint: "https://auth.spring.example.net/oauth2/revoke",
      introspection_endpoint: "https://auth.spring.example.net/oauth2/introspect",
      registration_endpoint: "https://auth.spring.example.net/oauth2/register",
      response_types_supported: ["code"],
      grant_types_supported: [
        "authorization_code",
        "client_credentials",
        "refresh_token",
        "urn:ietf:params:oauth:grant-type:device_code",
        "urn:ietf:params:oauth:grant-type:token-exchange",
      ],
      token_endpoint_auth_methods_supported: [
        "client_secret_basic",
        "client_secret_post",
        "client_secret_jwt",
        "private_key_jwt",
        "tls_client_auth",
        "self_signed_tls_client_auth",
      ],
      code_challenge_methods_supported: ["S256"],
      tls_client_certificate_bound_access_tokens: true,
      dpop_signing_alg_values_supported: [
        "RS256",
        "RS384",
        "RS512",
        "PS256",
        "PS384",
        "PS512",
        "ES256",
        "ES384",
        "ES512",
      ],
    },
  },
  token: {
    rotates: false,
    first: {
      access_token: "$access_token",
      refresh_token: "$refresh_token",
      token_type: "Bearer",
      expires_in: 299,
    },
    refreshed: {
      access_token: "$access_token",
      refresh_token: "$given_refresh_token",
      token_type: "Bearer",
      expires_in: 299,
    },
  },
} satisfies Upstream as Upstream;
