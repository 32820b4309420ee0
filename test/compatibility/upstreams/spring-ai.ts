import type { Upstream } from "../zoo.ts";

export default {
  title: "Spring AI, Java SDK",
  habit:
    "Open registration beside Spring Authorization Server's endpoints; no OpenID metadata (404); five minutes per token",
  sources: [
    {
      url: "https://github.com/spring-ai-community/mcp-security/blob/1af4c953084de6e46bbdebbb6576f2868f9feb1c/mcp-authorization-server/src/main/java/org/springaicommunity/mcp/security/authorizationserver/config/McpAuthorizationServerConfigurer.java",
      date: "2026-11-29",
    },
    { url: "https://github.com/spring-ai-community/mcp-security/releases/tag/v0.0.1", date: "2026-11-29" },
    {
      url: "https://docs.spring.io/spring-authorization-server/reference/protocol-endpoints.html",
      date: "2026-11-29",
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
      dpop_signing_alg_values_supported: ["RS256", "ES256"],
    },
  },
  token: {
    first: {
      access_token: "$access_token",
      refresh_token: "$refresh_token",
      token_type: "Bearer",
      expires_in: 299,
    },
  },
} satisfies Upstream as Upstream;
