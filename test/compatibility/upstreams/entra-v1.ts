import type { Upstream } from "../zoo.ts";

export default {
  title: "Microsoft Entra ID, v1",
  habit: "Numbers as text (expires_in, expires_on, not_before); its own resource parameter names the API",
  sources: [
    { url: "https://learn.microsoft.com/partner-center/developer/enable-secure-app-model", date: "2026-09" },
  ],
  looked: "2026-11-28",
  to: "https://reports.contoso.example/mcp",
  settings: {
    upstream_oauth2: {
      client_id: "aaaaaaaa-0000-4000-8000-000000000001",
      client_secret: "entra-secret",
      endpoint: {
        auth_url: "https://login.microsoftonline.com/11111111-1111-4111-8111-111111111111/oauth2/authorize",
        token_url: "https://login.microsoftonline.com/11111111-1111-4111-8111-111111111111/oauth2/token",
        auth_style: "client_secret_post",
      },
      authorization_url_params: { resource: "api://reports.contoso.example" },
    },
  },
  authorization: { wants: { resource: "api://reports.contoso.example" } },
  token: {
    methods: ["client_secret_post"],
    wants: { resource: "api://reports.contoso.example" },
    first: {
      token_type: "Bearer",
      scope: "user_impersonation",
      expires_in: "3599",
      ext_expires_in: "3599",
      expires_on: "1795910400",
      not_before: "1795906500",
      resource: "api://reports.contoso.example",
      access_token: "$access_token",
      refresh_token: "$refresh_token",
    },
  },
} satisfies Upstream as Upstream;
