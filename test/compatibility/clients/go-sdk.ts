import type { Client } from "../catalog.ts";

export default {
  title: "Go SDK",
  habit: "Registers only a name and callbacks; no resource in its refresh requests",
  sources: [
    {
      url: "https://github.com/modelcontextprotocol/go-sdk/blob/3d6450f/auth/authorization_code.go",
      date: "2026-08-21",
    },
    {
      url: "https://github.com/modelcontextprotocol/go-sdk/blob/3d6450f/examples/auth/client/main.go",
      date: "2026-08-21",
    },
  ],
  looked: "2026-11-28",
  registers: { client_name: "Dynamically registered MCP client", redirect_uris: ["http://localhost:3142"] },
  token: { method: "client_secret_basic", parameters: { resource: "$resource" } },
  refresh: {},
  authorize: { state: "ABCDEFGHIJKLMNOPQRSTUVWXYZ", scope: "mcp", resource: "$resource" },
  discovers: ["challenge", "resource-path", "resource-root"],
} satisfies Client as Client;
