import type { Upstream } from "../zoo.ts";

export default {
  title: "Netlify",
  habit:
    "A library's paths (auth, token, reg); offline_access among its scopes, so that consent is prompted for",
  sources: [
    { url: "https://docs.netlify.com/build/build-with-ai/netlify-mcp-server/", date: "2026-09-30" },
    { url: "https://netlify-mcp.netlify.app/.well-known/oauth-authorization-server", date: "2026-09-30" },
  ],
  looked: "2026-11-28",
  to: "https://netlify-mcp.netlify.app/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer resource_metadata="https://netlify-mcp.netlify.app/.well-known/oauth-protected-resource/mcp"',
    },
  },
  documents: {
    "https://netlify-mcp.netlify.app/.well-known/oauth-protected-resource/mcp": {
      resource: "https://netlify-mcp.netlify.app/mcp",
      authorization_servers: ["https://netlify-mcp.netlify.app/"],
      scopes_supported: ["read", "write"],
    },
    "https://netlify-mcp.netlify.app/.well-known/oauth-authorization-server": {
      issuer: "https://netlify-mcp.netlify.app/",
      authorization_endpoint: "https://netlify-mcp.netlify.app/oauth-server/auth",
      token_endpoint: "https://netlify-mcp.netlify.app/oauth-server/token",
      registration_endpoint: "https://netlify-mcp.netlify.app/oauth-server/reg",
      token_endpoint_auth_methods_supported: ["none"],
      code_challenge_methods_supported: ["S256"],
      scopes_supported: ["read", "write", "offline_access", "claudeai"],
    },
  },
  authorization: { wants: { prompt: "consent" } },
} satisfies Upstream as Upstream;
