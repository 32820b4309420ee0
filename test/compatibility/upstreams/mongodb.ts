import type { Upstream } from "../catalog.ts";

export default {
  title: "MongoDB Atlas",
  habit: "No registration: clients use a client id metadata document; an empty scope list; sends iss",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/8ac9c68ce886eeb1d9289c22f3269b171e2549c2/tests/fixtures/oauth/mcp/mongodb.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/api-evangelist/mongodb/blob/36da29b03b17c7df5fa550de2da223982d129953/well-known/mongodb-authorize-oauth-authorization-server.json",
      date: "2026-09-19",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.mongodb.com/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer realm="mcp", resource_metadata="https://mcp.mongodb.com/.well-known/oauth-protected-resource"',
    },
  },
  documents: {
    "https://mcp.mongodb.com/.well-known/oauth-protected-resource": {
      resource: "https://mcp.mongodb.com",
      authorization_servers: ["https://authorize.mongodb.com"],
      scopes_supported: [],
    },
    "https://authorize.mongodb.com/.well-known/oauth-authorization-server": {
      issuer: "https://authorize.mongodb.com",
      authorization_endpoint: "https://cloud.mongodb.com/oauth/authorize",
      token_endpoint: "https://authorize.mongodb.com/tokens",
      jwks_uri: "https://authorize.mongodb.com/jwks",
      response_types_supported: ["code"],
      grant_types_supported: [
        "authorization_code",
        "client_credentials",
        "refresh_token",
        "urn:ietf:params:oauth:grant-type:token-exchange",
      ],
      token_endpoint_auth_methods_supported: [
        "none",
        "client_secret_basic",
        "client_secret_post",
        "private_key_jwt",
      ],
      revocation_endpoint: "https://authorize.mongodb.com/tokens/revoke",
      introspection_endpoint: "https://authorize.mongodb.com/tokens/introspect",
      code_challenge_methods_supported: ["S256"],
      authorization_response_iss_parameter_supported: true,
      client_id_metadata_document_supported: true,
    },
  },
} satisfies Upstream as Upstream;
