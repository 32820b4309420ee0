import { html } from "ghtml";
import { layout } from "./layout.ts";

/**
 * Asks for the MCP server that an application wants to use, where the application does not say (RFC 8707). It lists none: nobody
 * has signed in yet, and whoever set the application up has just given it that address.
 */
export function whichServerPage(page: {
  /** Where the answer goes, as the parameter `server`. */
  action: string;
  /** Goes along with the answer. */
  parameters: Iterable<readonly [name: string, value: string]>;
  /** URL of the portal. */
  connections: string;
  /** There is no MCP server at the address that was entered. */
  isUnknown: boolean;
}): string {
  const hidden = Array.from(
    page.parameters,
    ([name, value]) => html`<input type="hidden" name="${name}" value="${value}">`,
  ).join("");
  const unknown = html`<p role="alert"><strong>This gateway has no MCP server at that address.</strong> Check it, and enter it as it is in the application.</p>`;
  return layout({
    title: "Which MCP server?",
    content: html`<h1>Which MCP server?</h1>
<p>An application wants to use an MCP server of this gateway, but does not say which one. Enter the address of the MCP server that you have set up in the application.</p>
!${page.isUnknown ? unknown : ""}
<form method="get" action="${page.action}">!${hidden}
<p><label for="server">Address of the MCP server</label></p>
<p><input id="server" name="server" type="text" inputmode="url" autocomplete="url" placeholder="https://mcp.example.com" required></p>
<p class="actions"><button class="primary" type="submit">Continue</button></p>
</form>
<p class="muted"><a href="${page.connections}">Your connections</a> lists the servers you may use. If you have not just connected an application, close this page.</p>`,
  });
}
