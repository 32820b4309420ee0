import { html } from "ghtml";
import { layout } from "./layout.ts";

/** What went wrong in words, what the person can do, and the id that finds it in the logs. */
export function errorPage(page: {
  title: string;
  /** What happened. */
  happened: string;
  /** What to do about it. */
  remedy: string;
  requestId: string;
  /** Machine word, for the people who run this. */
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
<p class="muted">If it keeps happening, send the request id to the people who run this service.</p>`,
  });
}

/** A page that only says something, with at most one way on. */
export function messagePage(page: {
  title: string;
  text: string;
  action?: { readonly label: string; readonly href: string };
}): string {
  const button = page.action
    ? html`<p class="actions"><a class="button primary" href="${page.action.href}">${page.action.label}</a></p>`
    : "";
  return layout({ title: page.title, content: html`<h1>${page.title}</h1><p>${page.text}</p>!${button}` });
}

/** What somebody finds who opens an address in a browser that is meant for MCP clients, or for nobody. */
export interface AddressPage {
  /** The MCP server at this address; absent: there is none. */
  readonly server?: {
    readonly name: string;
    /** What to give to a client. */
    readonly url: string;
  };
  /** The host's name, where no route and no issuer has it. */
  readonly unknownHost?: string;
  /** URL of the portal. */
  readonly connections: string;
  readonly code: string;
  readonly requestId: string;
}

/** Says what the address is, how to connect a client, and where one's connections are. */
export function addressPage(page: AddressPage): string {
  const { server, unknownHost, connections } = page;
  const title =
    server?.name ?? (unknownHost === undefined ? "This is an MCP gateway" : "Nothing is served here");
  return layout({
    title,
    content: html`<h1>${title}</h1>
!${server ? aboutServer(server) : aboutGateway(unknownHost)}
<p class="actions"><a class="button primary" href="${connections}">Your connections</a></p>
<dl><div><dt>Answer</dt><dd><code>${page.code}</code></dd></div><div><dt>Request id</dt><dd><code>${page.requestId}</code></dd></div></dl>
<p class="muted">If you expected something else here, send the request id to the people who run this service.</p>`,
  });
}

function aboutServer({ name, url }: NonNullable<AddressPage["server"]>): string {
  const command = `claude mcp add --transport http ${commandName(name)} ${url}`;
  return html`<p>This is the address of an MCP server. It is meant for MCP clients such as Claude, ChatGPT, VS Code or Cursor, not for browsers.</p>
<h2>Connect a client</h2>
<p>Add a remote MCP server (also called a custom connector) to your client, of the type “Streamable HTTP”, with this URL and no token:</p>
<p><code>${url}</code></p>
<p>With Claude Code, for instance:</p>
<p><code>${command}</code></p>
<p>The client opens a browser, where you sign in and allow it. “Your connections” shows the servers you may use and the clients you have allowed.</p>`;
}

function aboutGateway(unknownHost: string | undefined): string {
  const what =
    unknownHost === undefined
      ? "There is no MCP server at this address of the gateway."
      : `The gateway serves nothing under the host name ${unknownHost}. Check the address; the people who run the gateway enter a route for each host.`;
  return html`<p>${what}</p>
<h2>Connect a client</h2>
<p>“Your connections” lists the MCP servers you may use, each with its URL. Add that URL to your client (Claude, ChatGPT, VS Code, Cursor and others) as a remote MCP server, of the type “Streamable HTTP”, with no token.</p>`;
}

/** A name that a shell takes as it is. */
function commandName(name: string): string {
  return (
    name
      .toLowerCase()
      .replaceAll(/[^a-z0-9]+/g, "-")
      .replaceAll(/^-|-$/g, "") || "server"
  );
}
