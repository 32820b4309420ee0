import type { Upstream } from "../catalog.ts";

export default {
  title: "Canny",
  habit:
    "No registration: it publishes client ids for well-known applications, and issues one to others on request",
  sources: [
    { url: "https://help.canny.io/en/articles/13063190-canny-mcp-server", date: "2026-11-29" },
    { url: "https://github.com/MasonMaddy/stardust4", date: "2026-11-29" },
  ],
  looked: "2026-11-29",
  to: "https://api.canny.io/api/mcp/v1",
  settings: { upstream_oauth2: { client_id: "canny-client", client_secret: "canny-secret" } },
  documents: {
    "https://api.canny.io/.well-known/oauth-authorization-server": {
      issuer: "https://api.canny.io",
      authorization_endpoint: "https://canny.io/oauth/authorize",
      token_endpoint: "https://canny.io/api/oauth/token",
      token_endpoint_auth_methods_supported: ["client_secret_post"],
      code_challenge_methods_supported: ["S256"],
    },
  },
  guessed: ["documents"],
} satisfies Upstream as Upstream;
