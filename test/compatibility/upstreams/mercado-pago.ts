import type { Upstream } from "../catalog.ts";

export default {
  title: "Mercado Pago",
  habit:
    "401 without a WWW-Authenticate header; one issuer for the origin and one, with scopes, for the endpoint's path; the registration endpoint ends with that path",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/f3ceaa6f29495e8aa4c38439cf50a236fd8222a2/tests/fixtures/oauth/mcp/mercadopago.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/clout2buy/Ares/blob/f3ceaa6f29495e8aa4c38439cf50a236fd8222a2/tests/fixtures/oauth/idp/mercadopago.as.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/clout2buy/Ares/blob/7ff9cf317834d4a83a42b89e5587af8321e81930/tests/fixtures/oauth/idp/mercadopago.prm.json",
      date: "2026-10-01",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.mercadopago.com/mcp",
  unauthorized: {
    status: 401,
    body: {
      error: "unauthorized",
    },
  },
  documents: {
    "https://mcp.mercadopago.com/.well-known/oauth-protected-resource/mcp": {
      resource: "https://mcp.mercadopago.com/mcp",
      authorization_servers: ["https://mcp.mercadopago.com/mcp"],
      scopes_supported: ["offline_access", "write", "read"],
    },
    "https://mcp.mercadopago.com/.well-known/oauth-authorization-server/mcp": {
      issuer: "https://mcp.mercadopago.com/mcp",
      authorization_endpoint: "https://auth.mercadopago.com/mcp/authorization",
      token_endpoint: "https://mcp.mercadopago.com/oauth/token",
      device_authorization_endpoint: "https://mcp.mercadopago.com/oauth/device_authorization",
      grant_types_supported: ["authorization_code", "refresh_token"],
      response_types_supported: ["code"],
      scopes_supported: ["offline_access", "write", "read"],
      token_endpoint_auth_methods_supported: ["none"],
      code_challenge_methods_supported: ["S256"],
      registration_endpoint: "https://mcp.mercadopago.com/oauth/register/mcp",
    },
    "https://mcp.mercadopago.com/.well-known/oauth-protected-resource": {
      resource: "https://mcp.mercadopago.com",
      authorization_servers: ["https://mcp.mercadopago.com"],
    },
  },
  authorization: {
    wants: {
      scope: "offline_access write read",
    },
  },
} satisfies Upstream as Upstream;
