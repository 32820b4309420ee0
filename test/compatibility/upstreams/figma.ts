import type { Upstream } from "../zoo.ts";

export default {
  title: "Figma",
  habit: "Offers registration, and answers 403 to clients whose name it has not approved",
  sources: [
    { url: "https://api.figma.com/.well-known/oauth-authorization-server", date: "2026-07-13" },
    { url: "https://developers.figma.com/docs/figma-mcp-server/", date: "2026-08-20" },
  ],
  looked: "2026-11-28",
  to: "https://mcp.figma.com/mcp",
  documents: {
    "https://mcp.figma.com/.well-known/oauth-protected-resource": {
      resource: "https://mcp.figma.com/mcp",
      authorization_servers: ["https://api.figma.com"],
      scopes_supported: ["mcp:connect"],
    },
    "https://api.figma.com/.well-known/oauth-authorization-server": {
      issuer: "https://api.figma.com",
      authorization_endpoint: "https://www.figma.com/oauth/mcp",
      token_endpoint: "https://api.figma.com/v1/oauth/token",
      registration_endpoint: "https://api.figma.com/v1/oauth/mcp/register",
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post"],
      code_challenge_methods_supported: ["S256"],
      scopes_supported: ["mcp:connect"],
    },
  },
  registration: { refuses: { status: 403, body: "Forbidden" } },
  refusal: {
    says: "refused to register this gateway (registration_refused; api.figma.com answered 403); the operator of this gateway registers a client there by hand",
    why: "Figma registers clients of its catalog only",
  },
} satisfies Upstream as Upstream;
