import type { Upstream } from "../catalog.ts";

export default {
  title: "Zomato",
  habit: "No registration, and redirect URIs of a few clients only: others get an error redirect",
  sources: [{ url: "https://github.com/Zomato/mcp-server-manifest/issues/30", date: "2025-11-18" }],
  looked: "2026-11-29",
  to: "https://mcp-server.zomato.com/mcp",
  settings: { upstream_oauth2: { client_id: "zomato-client", client_secret: "zomato-secret" } },
  documents: {
    "https://mcp-server.zomato.com/.well-known/oauth-authorization-server": {
      issuer: "https://mcp-server.zomato.com",
      authorization_endpoint: "https://mcp-server.zomato.com/authorize",
      token_endpoint: "https://mcp-server.zomato.com/token",
      code_challenge_methods_supported: ["S256"],
    },
  },
  authorization: {
    fails: { error: "invalid_request", error_description: "Invalid redirect_uri parameter" },
  },
  guessed: ["documents", "authorization (that it sends the person back)"],
  refusal: {
    says: "(authorization_rejected; the server answered invalid_request); the operator of this gateway checks",
    why: "It accepts the redirect URIs of a few clients only",
  },
} satisfies Upstream as Upstream;
