import type { Upstream } from "../zoo.ts";

export default {
  title: "Mercado Pago",
  habit: "401 without a WWW-Authenticate header; the person's page is on another host",
  sources: [
    { url: "https://mcp.mercadopago.com/.well-known/oauth-authorization-server", date: "2026-09-30" },
    { url: "https://www.mercadopago.com/developers/en/docs/mcp-server/overview", date: "2026-09-30" },
  ],
  looked: "2026-11-28",
  to: "https://mcp.mercadopago.com/mcp",
  unauthorized: { status: 401, body: { error: "unauthorized" } },
  documents: {
    "https://mcp.mercadopago.com/.well-known/oauth-protected-resource": {
      resource: "https://mcp.mercadopago.com",
      authorization_servers: ["https://mcp.mercadopago.com"],
    },
    "https://mcp.mercadopago.com/.well-known/oauth-authorization-server": {
      issuer: "https://mcp.mercadopago.com",
      authorization_endpoint: "https://auth.mercadopago.com/mcp/authorization",
      token_endpoint: "https://mcp.mercadopago.com/oauth/token",
      registration_endpoint: "https://mcp.mercadopago.com/oauth/register",
      token_endpoint_auth_methods_supported: ["none"],
      code_challenge_methods_supported: ["S256"],
      device_authorization_endpoint: "https://mcp.mercadopago.com/oauth/device_authorization",
    },
  },
} satisfies Upstream as Upstream;
