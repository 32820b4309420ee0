import type { Upstream } from "../catalog.ts";

export default {
  title: "Amazon Cognito, by discovery",
  habit: "Metadata without code_challenge_methods_supported: PKCE may work, and is not listed",
  sources: [
    { url: "https://github.com/openiddict/openiddict-core/pull/1586", date: "2022-11-28" },
    { url: "https://github.com/anthropics/claude-ai-mcp/issues/946", date: "2026-08-28" },
    { url: "https://github.com/anthropics/claude-code/issues/67258", date: "2026-08-27" },
  ],
  looked: "2026-11-29",
  to: "https://reports.gateway.bedrock-agentcore.us-east-2.amazonaws.com/mcp",
  settings: { upstream_oauth2: { client_id: "9example87654321", client_secret: "cognito-secret" } },
  documents: {
    "https://reports.gateway.bedrock-agentcore.us-east-2.amazonaws.com/.well-known/oauth-protected-resource/mcp":
      {
        resource: "https://reports.gateway.bedrock-agentcore.us-east-2.amazonaws.com/mcp",
        authorization_servers: ["https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_EXAMPLE"],
      },
    "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_EXAMPLE/.well-known/openid-configuration": {
      issuer: "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_EXAMPLE",
      authorization_endpoint: "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_EXAMPLE/authorize",
      token_endpoint: "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_EXAMPLE/token",
      response_types_supported: ["code", "token"],
      scopes_supported: ["openid", "email", "phone", "profile"],
      subject_types_supported: ["public"],
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post"],
    },
  },
  refusal: {
    says: "does not list PKCE with S256 (pkce_not_supported)",
    why: "Without S256 in its metadata, a stolen code may be redeemable; with endpoints in the routes file it works",
  },
} satisfies Upstream as Upstream;
