import type { Client } from "../catalog.ts";

export default {
  title: "VS Code when its port is in use",
  habit: "Uses a loopback port that it has not registered",
  sources: [
    {
      url: "https://github.com/microsoft/vscode/blob/main/src/vs/workbench/api/node/loopbackServer.ts",
      date: "2026-07-29",
    },
  ],
  looked: "2026-11-28",
  registers: {
    client_name: "Visual Studio Code",
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
  redirectUri: "http://127.0.0.1:50317/",
  discoveryHeaders: { "mcp-protocol-version": "2025-11-25" },
} satisfies Client as Client;
