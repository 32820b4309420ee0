import type { Client } from "../catalog.ts";

export default {
  title: "VS Code",
  habit:
    "Registers a device grant and four callbacks, one without a port; verifies the resource in the metadata",
  sources: [
    {
      url: "https://github.com/microsoft/vscode/blob/05f882b02c51633f2e1e8252722f8c3b626d74a9/src/vs/base/common/oauth.ts",
      date: "2026-11-29",
    },
  ],
  looked: "2026-11-29",
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
  redirectUri: "http://127.0.0.1:33418/",
  discoveryHeaders: { "mcp-protocol-version": "2025-11-25", "user-agent": "Visual Studio Code/1.130.0" },
  comparesResource: true,
  discovers: ["challenge", "resource-path", "resource-root"],
  metadata: ["oauth-authorization-server", "openid-configuration"],
  protocolVersion: "2025-11-25",
} satisfies Client as Client;
