import type { Upstream } from "../catalog.ts";

export default {
  title: "Amazon Cognito",
  habit:
    "Only OpenID Connect metadata, which lists neither PKCE nor registration; endpoints on another host than the issuer; a refresh response has no refresh token",
  sources: [
    {
      url: "https://docs.aws.amazon.com/cognito/latest/developerguide/token-endpoint.html",
      date: "2026-11-29",
    },
    { url: "https://github.com/anthropics/claude-code/issues/13275", date: "2025-12-07" },
    { url: "https://github.com/anthropics/claude-code/issues/67258", date: "2026-08-27" },
  ],
  looked: "2026-11-29",
  to: "https://trialmatch.gateway.bedrock-agentcore.us-east-2.amazonaws.com/mcp",
  settings: {
    upstream_oauth2: {
      client_id: "1example23456789",
      client_secret: "cognito-secret",
      scopes: ["openid", "tools/read"],
      endpoint: {
        auth_url: "https://acme.auth.us-east-2.amazoncognito.com/oauth2/authorize",
        token_url: "https://acme.auth.us-east-2.amazoncognito.com/oauth2/token",
        auth_style: "client_secret_basic",
      },
    },
  },
  documents: {
    "https://cognito-idp.us-east-2.amazonaws.com/us-east-2_EXAMPLE/.well-known/openid-configuration": {
      issuer: "https://cognito-idp.us-east-2.amazonaws.com/us-east-2_EXAMPLE",
      authorization_endpoint: "https://acme.auth.us-east-2.amazoncognito.com/oauth2/authorize",
      token_endpoint: "https://acme.auth.us-east-2.amazoncognito.com/oauth2/token",
      end_session_endpoint: "https://acme.auth.us-east-2.amazoncognito.com/logout",
      revocation_endpoint: "https://acme.auth.us-east-2.amazoncognito.com/oauth2/revoke",
      response_types_supported: ["code", "token"],
      scopes_supported: ["openid", "email", "phone", "profile"],
      subject_types_supported: ["public"],
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post"],
    },
  },
  token: {
    methods: ["client_secret_basic", "client_secret_post"],
    rotates: false,
    first: {
      access_token: "$access_token",
      id_token: "eyJraWQiOiIxIn0.e30.c2ln",
      refresh_token: "$refresh_token",
      token_type: "Bearer",
      expires_in: 3600,
    },
    refused: { status: 400, body: { error: "invalid_grant" } },
  },
} satisfies Upstream as Upstream;
