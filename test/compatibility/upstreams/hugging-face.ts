import type { Upstream } from "../zoo.ts";

export default {
  title: "Hugging Face",
  habit: "Public tools without a token; a confidential client by registration, or a document",
  sources: [
    { url: "https://huggingface.co/docs/hub/oauth", date: "2026-09-30" },
    { url: "https://huggingface.co/.well-known/oauth-authorization-server", date: "2026-09-30" },
  ],
  looked: "2026-11-28",
  to: "https://huggingface.co/mcp",
  anonymous: true,
  documents: {
    "https://huggingface.co/.well-known/oauth-protected-resource/mcp": {
      resource: "https://huggingface.co/mcp",
      authorization_servers: ["https://huggingface.co"],
      scopes_supported: ["read-mcp", "read-repos", "jobs", "contribute-repos", "inference-api"],
    },
    "https://huggingface.co/.well-known/oauth-authorization-server": {
      issuer: "https://huggingface.co",
      authorization_endpoint: "https://huggingface.co/oauth/authorize",
      token_endpoint: "https://huggingface.co/oauth/token",
      registration_endpoint: "https://huggingface.co/oauth/register",
      token_endpoint_auth_methods_supported: ["client_secret_basic"],
      code_challenge_methods_supported: ["S256"],
      device_authorization_endpoint: "https://huggingface.co/oauth/device",
      userinfo_endpoint: "https://huggingface.co/oauth/userinfo",
    },
  },
} satisfies Upstream as Upstream;
