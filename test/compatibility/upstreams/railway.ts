import type { Upstream } from "../catalog.ts";

export default {
  title: "Railway",
  habit:
    "The issuer is a host without a path, its endpoints are under /oauth; public clients, openid in the scopes; a refresh token only for offline_access with prompt=consent",
  sources: [
    { url: "https://docs.railway.com/ai/remote-mcp-server", date: "2026-11-29" },
    { url: "https://docs.railway.com/integrations/oauth/login-and-tokens", date: "2026-11-29" },
    { url: "https://docs.railway.com/integrations/oauth/creating-an-app.md", date: "2026-11-29" },
  ],
  looked: "2026-11-29",
  to: "https://mcp.railway.com/",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer resource_metadata="https://mcp.railway.com/.well-known/oauth-protected-resource"',
    },
  },
  documents: {
    "https://mcp.railway.com/.well-known/oauth-protected-resource": {
      resource: "https://mcp.railway.com",
      authorization_servers: ["https://backboard.railway.com"],
      scopes_supported: ["openid", "profile", "email", "offline_access", "workspace:member"],
    },
    "https://backboard.railway.com/.well-known/oauth-authorization-server": {
      issuer: "https://backboard.railway.com",
      authorization_endpoint: "https://backboard.railway.com/oauth/auth",
      token_endpoint: "https://backboard.railway.com/oauth/token",
      registration_endpoint: "https://backboard.railway.com/oauth/register",
      userinfo_endpoint: "https://backboard.railway.com/oauth/me",
      jwks_uri: "https://backboard.railway.com/oauth/jwks",
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "none"],
      code_challenge_methods_supported: ["S256"],
    },
  },
  authorization: {
    wants: { prompt: "consent", scope: "openid profile email offline_access workspace:member" },
  },
  guessed: ["documents (where they are)", "unauthorized"],
} satisfies Upstream as Upstream;
