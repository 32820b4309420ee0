import { html } from "ghtml";
import { layout } from "./layout.ts";

/** What happened, what the user can do, and the request id to find in the logs. */
export function errorPage(page: {
  title: string;
  /** What happened. */
  happened: string;
  /** What to do about it. */
  remedy: string;
  requestId: string;
  /** Error code, for operators. */
  code?: string;
  action?: { readonly label: string; readonly href: string };
}): string {
  const button = page.action
    ? html`<p class="actions"><a class="button primary" href="${page.action.href}">${page.action.label}</a></p>`
    : "";
  const code = page.code ? html`<div><dt>Error</dt><dd><code>${page.code}</code></dd></div>` : "";
  return layout({
    title: page.title,
    content: html`<h1>${page.title}</h1>
<p>${page.happened}</p>
<p>${page.remedy}</p>
!${button}
<dl>!${code}<div><dt>Request id</dt><dd><code>${page.requestId}</code></dd></div></dl>
<p class="muted">If it keeps happening, send the request id to your administrator.</p>`,
  });
}

/** A page with a message and at most one link. */
export function messagePage(page: {
  title: string;
  text: string;
  /** A second paragraph: what to do next. */
  next?: string;
  action?: { readonly label: string; readonly href: string };
}): string {
  const button = page.action
    ? html`<p class="actions"><a class="button primary" href="${page.action.href}">${page.action.label}</a></p>`
    : "";
  return layout({
    title: page.title,
    content: html`<h1>${page.title}</h1><p>${page.text}</p>!${page.next ? html`<p>${page.next}</p>` : ""}!${button}`,
  });
}

/** Shown for an address that is meant for MCP clients or not in use, when it is opened in a browser. */
export interface AddressPage {
  /** The MCP server at this address, if any. */
  readonly server?: {
    readonly name: string;
    /** The URL for MCP clients. */
    readonly url: string;
  };
  /** The host name, if no route uses it and it is not the issuer's. */
  readonly unknownHost?: string;
  /** URL of the portal. */
  readonly connections: string;
  readonly code: string;
  readonly requestId: string;
}

/** Explains what the address is, how to connect a client, and where the portal is. */
export function addressPage(page: AddressPage): string {
  const { server, unknownHost, connections } = page;
  const title =
    server?.name ?? (unknownHost === undefined ? "This is an MCP gateway" : "Nothing is served here");
  return layout({
    title,
    content: html`<h1>${title}</h1>
!${server ? aboutServer(server) : aboutGateway(unknownHost)}
<p class="actions"><a class="button primary" href="${connections}">Your connections</a></p>
<dl><div><dt>Code</dt><dd><code>${page.code}</code></dd></div><div><dt>Request id</dt><dd><code>${page.requestId}</code></dd></div></dl>
<p class="muted">If you expected something else here, send the request id to your administrator.</p>`,
  });
}

function aboutServer({ name, url }: NonNullable<AddressPage["server"]>): string {
  const command = `claude mcp add --transport http ${commandName(name)} ${url}`;
  return html`<p>This address is for MCP clients such as Claude, ChatGPT, VS Code or Cursor, not for browsers.</p>
<h2>Connect a client</h2>
<p>Add a remote MCP server (also called a custom connector) to your client. Choose the type “Streamable HTTP”, this URL and no token:</p>
<p><code>${url}</code></p>
<p>For example, with Claude Code:</p>
<p><code>${command}</code></p>
<p>The client opens a browser, where you sign in and allow the access. “Your connections” shows the servers you may use and the clients you have allowed.</p>`;
}

function aboutGateway(unknownHost: string | undefined): string {
  const what =
    unknownHost === undefined
      ? "There is no MCP server at this address of the gateway."
      : `The gateway has no route for the host ${unknownHost}. Check the address, or ask your administrator to add a route.`;
  return html`<p>${what}</p>
<h2>Connect a client</h2>
<p>“Your connections” lists the MCP servers you may use, each with its URL. Add that URL to your client (Claude, ChatGPT, VS Code, Cursor and others) as a remote MCP server with the type “Streamable HTTP” and no token.</p>`;
}

/** A name that needs no quoting in a shell. */
function commandName(name: string): string {
  return (
    name
      .toLowerCase()
      .replaceAll(/[^a-z0-9]+/g, "-")
      .replaceAll(/^-|-$/g, "") || "server"
  );
}
