import { html } from "ghtml";
import { layout } from "./layout.ts";

/**
 * Asks which MCP server an application wants to use, if the application does not say (RFC 8707). It lists no servers: the user has not
 * signed in yet, and has just entered the address in the application.
 */
export function whichServerPage(page: {
  /** Gets the answer as the parameter `server`. */
  action: string;
  /** Sent along with the answer. */
  parameters: Iterable<readonly [name: string, value: string]>;
  /** URL of the portal. */
  connections: string;
  /** Whether the entered address is not an MCP server's. */
  isUnknown: boolean;
}): string {
  const hidden = Array.from(
    page.parameters,
    ([name, value]) => html`<input type="hidden" name="${name}" value="${value}">`,
  ).join("");
  const unknown = html`<p role="alert"><strong>This gateway has no MCP server at that address.</strong> Check it, and enter it exactly as in the application.</p>`;
  return layout({
    title: "Which MCP server?",
    content: html`<h1>Which MCP server?</h1>
<p>An application wants to use an MCP server of this gateway, but does not say which one. Enter the address of the MCP server that you have configured in the application.</p>
!${page.isUnknown ? unknown : ""}
<form method="get" action="${page.action}">!${hidden}
<p><label for="server">Address of the MCP server</label></p>
<p><input id="server" name="server" type="text" inputmode="url" autocomplete="url" placeholder="https://mcp.example.com" required></p>
<p class="actions"><button class="primary" type="submit">Continue</button></p>
</form>
<p class="muted"><a href="${page.connections}">Your connections</a> lists the servers you may use. If you have not just connected an application, close this page.</p>`,
  });
}
