import type { Upstream } from "../catalog.ts";

export default {
  title: "Rust SDK's example server, unchanged",
  habit: "Its issuer is host and port without a scheme, which is not a URL",
  sources: [
    {
      url: "https://github.com/modelcontextprotocol/rust-sdk/blob/4a738b9dd99eaca418b614afa433a0cbdaf8d056/examples/servers/src/complex_auth_streamhttp.rs",
      date: "2026-08-20",
    },
  ],
  looked: "2026-11-29",
  to: "https://rmcp-example.example.net/mcp",
  unauthorized: { status: 401, body: "" },
  documents: {
    "https://rmcp-example.example.net/.well-known/oauth-authorization-server": {
      issuer: "rmcp-example.example.net",
      authorization_endpoint: "https://rmcp-example.example.net/oauth/authorize",
      token_endpoint: "https://rmcp-example.example.net/oauth/token",
      registration_endpoint: "https://rmcp-example.example.net/oauth/register",
      scopes_supported: ["profile", "email"],
      response_types_supported: ["code"],
      code_challenge_methods_supported: ["S256"],
    },
  },
  refusal: {
    says: "(issuer_mismatch)",
    why: "RFC 8414 requires an https URL that equals the requested one; without it, two servers cannot be distinguished",
  },
} satisfies Upstream as Upstream;
