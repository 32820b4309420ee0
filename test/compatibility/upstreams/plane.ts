import type { Upstream } from "../catalog.ts";

export default {
  title: "Plane (FastMCP's OAuth proxy with a list of redirect URIs)",
  habit:
    "Registers any redirect URI, but rejects it at the authorization endpoint, with JSON shown to the user",
  sources: [
    { url: "https://github.com/makeplane/plane-mcp-server/issues/220", date: "2026-09-17" },
    { url: "https://github.com/PrefectHQ/fastmcp/issues/3037", date: "2026-11-29" },
  ],
  looked: "2026-11-29",
  to: "https://mcp.plane.so/http/mcp",
  documents: {
    "https://mcp.plane.so/.well-known/oauth-protected-resource/http/mcp": {
      resource: "https://mcp.plane.so/http/mcp",
      authorization_servers: ["https://mcp.plane.so/http"],
    },
    "https://mcp.plane.so/.well-known/oauth-authorization-server/http": {
      issuer: "https://mcp.plane.so/http",
      authorization_endpoint: "https://mcp.plane.so/http/authorize",
      token_endpoint: "https://mcp.plane.so/http/token",
      registration_endpoint: "https://mcp.plane.so/http/register",
      token_endpoint_auth_methods_supported: ["none", "client_secret_post"],
      code_challenge_methods_supported: ["S256"],
    },
  },
  authorization: {
    shows: {
      status: 400,
      body: { error: "invalid_request", error_description: "Redirect URI does not match allowed patterns." },
    },
  },
  guessed: ["documents (where they are)"],
  refusal: {
    says: "mcp.plane.so/http/authorize 400",
    why: "It accepts only redirect URIs of well-known clients, and shows the error to the user instead of returning it; a self-hosted server has a setting for others",
  },
} satisfies Upstream as Upstream;
