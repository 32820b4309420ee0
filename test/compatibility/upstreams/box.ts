import type { Upstream } from "../catalog.ts";

export default {
  title: "Box",
  habit:
    "The endpoint is the origin; any other path is 401, too; the resource metadata names the issuer with a trailing slash, its own metadata without",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/8ac9c68ce886eeb1d9289c22f3269b171e2549c2/tests/fixtures/oauth/mcp/box.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/api-evangelist/box/blob/dc570204f1e07959d4b2ec797dd7d35eea00cba9/well-known/box-api-oauth-authorization-server.json",
      date: "2026-09-19",
    },
    {
      url: "https://github.com/clout2buy/Ares/blob/dc7eb18ef38c313eadd851a20ddad7c525a86920/packages/core/src/oauthMatrixData.ts",
      date: "2026-09-30",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.box.com/",
  settings: {
    upstream_oauth2: {
      client_id: "box-integration",
      client_secret: "box-secret",
      scopes: ["root_readwrite", "ai.readwrite"],
    },
  },
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer realm="Service", error="invalid_request", error_description="The access token was not found.", resource_metadata="https://mcp.box.com/.well-known/oauth-protected-resource"',
    },
    body: "",
  },
  elsewhere: {
    status: 401,
    body: "",
  },
  documents: {
    "https://mcp.box.com/.well-known/oauth-protected-resource": {
      resource: "https://mcp.box.com/",
      authorization_servers: ["https://api.box.com/"],
      bearer_methods_supported: ["header"],
      resource_name: "Box Model Context Protocol Server",
    },
    "https://api.box.com/.well-known/oauth-authorization-server": {
      issuer: "https://api.box.com",
      authorization_endpoint: "https://account.box.com/api/oauth2/authorize",
      token_endpoint: "https://api.box.com/oauth2/token",
      response_types_supported: ["code"],
      grant_types_supported: ["authorization_code", "refresh_token"],
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post"],
      revocation_endpoint: "https://api.box.com/oauth2/revoke",
      code_challenge_methods_supported: ["S256"],
    },
  },
} satisfies Upstream as Upstream;
