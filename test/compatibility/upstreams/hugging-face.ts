import type { Upstream } from "../catalog.ts";

export default {
  title: "Hugging Face",
  habit: "Public tools without a token; confidential clients by registration, or a metadata document",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/7ff9cf317834d4a83a42b89e5587af8321e81930/tests/fixtures/oauth/mcp/huggingface.json",
      date: "2026-10-01",
    },
  ],
  looked: "2026-11-29",
  to: "https://huggingface.co/mcp",
  anonymous: true,
  documents: {
    "https://huggingface.co/.well-known/oauth-protected-resource/mcp": {
      resource: "https://huggingface.co/mcp",
      authorization_servers: ["https://huggingface.co"],
      bearer_methods_supported: ["header"],
      scopes_supported: [
        "openid",
        "profile",
        "read-mcp",
        "read-repos",
        "jobs",
        "contribute-repos",
        "inference-api",
      ],
    },
    "https://huggingface.co/.well-known/oauth-authorization-server": {
      issuer: "https://huggingface.co",
      registration_endpoint: "https://huggingface.co/oauth/register",
      token_endpoint: "https://huggingface.co/oauth/token",
      authorization_endpoint: "https://huggingface.co/oauth/authorize",
      userinfo_endpoint: "https://huggingface.co/oauth/userinfo",
      device_authorization_endpoint: "https://huggingface.co/oauth/device",
      jwks_uri: "https://huggingface.co/oauth/jwks",
      response_types_supported: ["code"],
      response_modes_supported: ["query"],
      id_token_signing_alg_values_supported: ["RS256"],
      subject_types_supported: ["public"],
      code_challenge_methods_supported: ["S256"],
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post"],
      client_id_metadata_document_supported: true,
      grant_types_supported: [
        "urn:ietf:params:oauth:grant-type:token-exchange",
        "urn:ietf:params:oauth:grant-type:device_code",
        "authorization_code",
        "refresh_token",
      ],
    },
  },
  token: {
    methods: ["client_secret_basic", "client_secret_post", "none"],
  },
} satisfies Upstream as Upstream;
