import type { Upstream } from "../catalog.ts";

export default {
  title: "Microsoft Entra ID, v1",
  habit:
    "Numbers as strings (expires_in, expires_on, not_before); its own resource parameter names the API, and must be the same at both steps; a challenge with a trailing comma; errors with codes and timestamps of its own",
  sources: [
    {
      url: "https://github.com/MicrosoftDocs/azure-docs/blob/2348be450b91b501d74ad4e80bea41979d49100e/articles/active-directory/azuread-dev/v1-protocols-oauth-code.md",
      date: "2019-12-12",
    },
    {
      url: "https://speakerdeck.com/player/d37aa921a06f452194388ee0f8d49e80",
      date: "2017-08",
    },
  ],
  looked: "2026-11-29",
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
      authorization_url_params: {
        resource: "api://reports.contoso.example",
      },
    },
  },
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer authorization_uri="https://login.microsoftonline.com/contoso.com/oauth2/authorize",  error="invalid_token",  error_description="The access token is missing.",',
    },
  },
  authorization: {
    wants: {
      resource: "api://reports.contoso.example",
    },
  },
  token: {
    methods: ["client_secret_post"],
    wants: {
      resource: "api://reports.contoso.example",
    },
    first: {
      token_type: "Bearer",
      scope: "user_impersonation",
      expires_in: "3599",
      ext_expires_in: "0",
      expires_on: "1795910400",
      not_before: "1795906500",
      resource: "api://reports.contoso.example",
      access_token: "$access_token",
      refresh_token: "$refresh_token",
      id_token: "eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0.e30.",
    },
    refused: {
      status: 400,
      body: {
        error: "invalid_grant",
        error_description:
          "AADSTS70002: Error validating credentials. AADSTS70008: The provided authorization code or refresh token is expired.\r\nTrace ID: 3939d04c-d7ba-42bf-9cb7-1e5854cdce9e",
        error_codes: [70002, 70008],
        timestamp: "2016-04-11 18:00:12Z",
        trace_id: "3939d04c-d7ba-42bf-9cb7-1e5854cdce9e",
        correlation_id: "a8125194-2dc8-4078-90ba-7b6592a7f231",
      },
    },
  },
} satisfies Upstream as Upstream;
