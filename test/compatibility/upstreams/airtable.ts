import type { Upstream } from "../catalog.ts";

export default {
  title: "Airtable",
  habit:
    "The resource is the origin; an issuer with two path segments on another host; Basic or no authentication; refresh tokens can be used once",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/8ac9c68ce886eeb1d9289c22f3269b171e2549c2/tests/fixtures/oauth/mcp/airtable.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/clout2buy/Ares/blob/dc7eb18ef38c313eadd851a20ddad7c525a86920/packages/core/src/oauthMatrixData.ts",
      date: "2026-09-30",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.airtable.com/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer error="invalid_token", error_description="Missing Authorization header", resource_metadata="https://mcp.airtable.com/.well-known/oauth-protected-resource"',
    },
  },
  documents: {
    "https://mcp.airtable.com/.well-known/oauth-protected-resource": {
      resource: "https://mcp.airtable.com",
      authorization_servers: ["https://airtable.com/oauth2/v1"],
      scopes_supported: [
        "data.records:read",
        "data.records:write",
        "schema.bases:read",
        "schema.bases:write",
        "data.recordComments:read",
        "data.recordComments:write",
        "workspacesAndBases:read",
      ],
      bearer_methods_supported: ["header"],
      resource_signing_alg_values_supported: ["RS256", "HS256"],
    },
    "https://airtable.com/.well-known/oauth-authorization-server/oauth2/v1": {
      issuer: "https://airtable.com/oauth2/v1",
      registration_endpoint: "https://airtable.com/oauth2/v1/register",
      authorization_endpoint: "https://airtable.com/oauth2/v1/authorize",
      token_endpoint: "https://airtable.com/oauth2/v1/token",
      jwks_uri: "https://airtable.com/oauth2/v1/jwks",
      response_types_supported: ["code"],
      token_endpoint_auth_methods_supported: ["client_secret_basic", "none"],
      code_challenge_methods_supported: ["S256"],
      resource_indicators_supported: true,
      client_id_metadata_document_supported: true,
    },
  },
} satisfies Upstream as Upstream;
