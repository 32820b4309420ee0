import type { Upstream } from "../catalog.ts";

export default {
  title: "Microsoft Entra ID, v2",
  habit: "Rejects a resource that does not match the scopes (AADSTS9010010); scopes name the API",
  sources: [
    { url: "https://github.com/microsoft/vscode/issues/321249", date: "2026-06-13" },
    { url: "https://github.com/punkpeye/mcp-remote/issues/217", date: "2026-08-21" },
    { url: "https://github.com/microsoft/powerbi-modeling-mcp/issues/68", date: "2026-03-09" },
    { url: "https://github.com/microsoft/azure-devops-mcp/issues/1601", date: "2026-09-12" },
  ],
  looked: "2026-11-29",
  to: "https://ledger.contoso.example/mcp",
  settings: {
    upstream_oauth2: {
      client_id: "aaaaaaaa-0000-4000-8000-000000000002",
      client_secret: "entra-v2-secret",
      scopes: ["api://ledger.contoso.example/access_as_user", "offline_access"],
      endpoint: {
        auth_url:
          "https://login.microsoftonline.com/22222222-2222-4222-8222-222222222222/oauth2/v2.0/authorize",
        token_url: "https://login.microsoftonline.com/22222222-2222-4222-8222-222222222222/oauth2/v2.0/token",
        auth_style: "client_secret_post",
      },
      authorization_url_params: { resource: "" },
    },
  },
  authorization: {
    wants: { scope: "api://ledger.contoso.example/access_as_user offline_access" },
    refuses: ["resource"],
  },
  token: {
    methods: ["client_secret_post"],
    refuses: ["resource"],
    first: {
      token_type: "Bearer",
      scope: "api://ledger.contoso.example/access_as_user",
      expires_in: 3599,
      ext_expires_in: 3599,
      access_token: "$access_token",
      refresh_token: "$refresh_token",
    },
  },
} satisfies Upstream as Upstream;
