import type { Client } from "../catalog.ts";

export default {
  title: "VS Code in a browser",
  habit: "The callback is on vscode.dev",
  sources: [
    {
      url: "https://github.com/microsoft/vscode/blob/main/src/vs/workbench/api/common/extHostAuthentication.ts",
      date: "2026-07-29",
    },
  ],
  looked: "2026-11-28",
  registers: {
    client_name: "Visual Studio Code - Insiders",
    redirect_uris: [
      "https://insiders.vscode.dev/redirect",
      "https://vscode.dev/redirect",
      "http://127.0.0.1/",
      "http://127.0.0.1:33418/",
    ],
    token_endpoint_auth_method: "none",
    grant_types: ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
    response_types: ["code"],
    client_uri: "https://code.visualstudio.com",
    application_type: "native",
  },
  redirectUri: "https://vscode.dev/redirect",
} satisfies Client as Client;
