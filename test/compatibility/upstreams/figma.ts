import type { Upstream } from "../catalog.ts";

export default {
  title: "Figma",
  habit:
    "Offers registration, but answers 403 to clients that it has not reviewed; commas without spaces in the challenge, and authorization_uri",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/f3ceaa6f29495e8aa4c38439cf50a236fd8222a2/tests/fixtures/oauth/mcp/figma.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/api-evangelist/figma/blob/d8558835e60a5c21b14d981abeb888e51ad1a1c8/well-known/figma-oauth-authorization-server.json",
      date: "2026-06-20",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.figma.com/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "content-type": "text/plain; charset=utf-8",
      "www-authenticate":
        'Bearer resource_metadata="https://mcp.figma.com/.well-known/oauth-protected-resource",scope="mcp:connect",authorization_uri="https://api.figma.com/.well-known/oauth-authorization-server"',
    },
    body: "Unauthorized",
  },
  documents: {
    "https://mcp.figma.com/.well-known/oauth-protected-resource": {
      resource: "https://mcp.figma.com/mcp",
      authorization_servers: ["https://api.figma.com"],
      bearer_methods_supported: ["header"],
      scopes_supported: ["mcp:connect"],
      resource_name: "Figma MCP",
    },
    "https://api.figma.com/.well-known/oauth-authorization-server": {
      issuer: "https://api.figma.com",
      authorization_endpoint: "https://www.figma.com/oauth/mcp",
      token_endpoint: "https://api.figma.com/v1/oauth/token",
      grant_types_supported: [
        "authorization_code",
        "refresh_token",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
      ],
      authorization_grant_profiles_supported: ["urn:ietf:params:oauth:grant-profile:id-jag"],
      response_types_supported: ["code"],
      registration_endpoint: "https://api.figma.com/v1/oauth/mcp/register",
      code_challenge_methods_supported: ["S256"],
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post"],
      scopes_supported: ["mcp:connect"],
      require_state_parameter: true,
      authorization_response_iss_parameter_supported: true,
    },
  },
  registration: {
    refuses: {
      status: 403,
      body: "Forbidden",
    },
  },
  refusal: {
    says: "rejected the registration of this gateway (registration_rejected; api.figma.com answered 403); the operator of this gateway registers a client there by hand",
    why: "Figma registers only clients in its catalog",
  },
} satisfies Upstream as Upstream;
