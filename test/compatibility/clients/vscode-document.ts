import type { Client } from "../catalog.ts";

export default {
  title: "VS Code, by its document",
  habit: "A metadata document with its preferred port, and vscode.dev",
  sources: [{ url: "https://vscode.dev/oauth/client-metadata.json", date: "2026-10-02" }],
  looked: "2026-11-28",
  document: {
    url: "https://vscode.dev/oauth/client-metadata.json",
    body: {
      client_id: "https://vscode.dev/oauth/client-metadata.json",
      client_name: "Visual Studio Code",
      redirect_uris: ["http://127.0.0.1:33418/", "https://vscode.dev/redirect"],
    },
  },
  redirectUri: "http://127.0.0.1:50000/",
} satisfies Client as Client;
