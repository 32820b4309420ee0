import { html } from "ghtml";
import type { Route } from "../model/route.ts";
import { clientOrigin, icon, layout, scopeInWords } from "./layout.ts";

/** What users have to know before they connect an upstream account to their account here. */
export interface ConfirmConnectionPage {
  readonly route: Pick<Route, "name" | "description" | "resource" | "logoUrl">;
  readonly person: string;
  /** The application whose call needs the connection; absent if the user has started it in a browser. */
  readonly client?: Parameters<typeof clientOrigin>[0] & { readonly name?: string };
  /** Name of the aggregated server through which the application uses this one. */
  readonly through?: string;
  /** The authorization server that the browser goes to next; absent if the server is connected already. */
  readonly upstream?: {
    /** Its host. */
    readonly server: string;
    /** Whether it belongs to another site than the MCP server. */
    readonly foreign: boolean;
    readonly scopes: readonly string[];
    /** Scopes that the server has not requested before. */
    readonly added: readonly string[];
  };
  /** Host that the browser returns to; absent for a consent link. */
  readonly returnHost?: string;
  readonly action: string;
  readonly csrf: string;
  readonly switchAccount: string;
}

/** One form, two buttons: `decision=allow` and `decision=deny`. */
export function confirmConnectionPage(page: ConfirmConnectionPage): string {
  const { route, client, upstream } = page;
  const name = client?.name ?? "An unnamed application";
  const description = route.description ? html`<p class="muted">${route.description}</p>` : "";
  const title = upstream ? `Connect ${route.name}?` : `Allow access to ${route.name}?`;
  const heading = upstream
    ? html`Connect ${route.name} as ${page.person}?`
    : html`Allow <em><bdi>${name}</bdi></em> to use ${route.name}?`;
  return layout({
    title,
    content: html`<div class="head">!${icon(route.name, route.logoUrl)}<h1>!${heading}</h1></div>
!${description}
<dl>
!${client ? html`<div><dt>Application</dt><dd><bdi>${name}</bdi><br>!${clientOrigin(client)}</dd></div>` : ""}
<div><dt>Server</dt><dd><span class="mono">${route.resource}</span></dd></div>
!${page.through ? html`<div><dt>Used through</dt><dd>${page.through}</dd></div>` : ""}
<div><dt>Signed in as</dt><dd>${page.person} <a class="nowrap" href="${page.switchAccount}">Not you?</a></dd></div>
!${page.returnHost ? html`<div><dt>Returns to</dt><dd><strong>${page.returnHost}</strong></dd></div>` : ""}
</dl>
!${upstream ? aboutUpstream(route.name, upstream) : ""}
<p>!${upstream ? html`Next, <strong>${upstream.server}</strong> asks whether this gateway may use your account there. ` : ""}!${advice(page)}</p>
<form method="post" action="${page.action}">
<input type="hidden" name="csrf" value="${page.csrf}">
<input type="hidden" name="server" value="${upstream?.server ?? ""}">
<input type="hidden" name="scope" value="${upstream?.scopes.join(" ") ?? ""}">
<p class="actions"><button type="submit" name="decision" value="deny">Cancel</button><button class="primary" type="submit" name="decision" value="allow">${upstream ? "Connect" : "Allow"}</button></p>
</form>`,
  });
}

function advice({ client, upstream }: ConfirmConnectionPage): string {
  if (!client) return "Continue only if you have just asked to connect it.";
  const never = upstream ? "The application never sees that password or token. " : "";
  return `${never}Continue only if you have just used it in this application. If somebody has sent you the link to this page, cancel.`;
}

function aboutUpstream(name: string, upstream: NonNullable<ConfirmConnectionPage["upstream"]>): string {
  const { server, foreign, scopes, added } = upstream;
  const others = scopes.filter((scope) => !added.includes(scope));
  return html`!${foreign ? foreignServer(name, server) : ""}
!${added.length > 0 ? html`<h2>${name} now asks for more</h2>!${list(added)}` : ""}
!${others.length > 0 ? html`<h2>It will be able to</h2>!${list(others)}` : ""}`;
}

function list(scopes: readonly string[]): string {
  return html`<ul class="plain">!${scopes.map((scope) => html`<li>${scopeInWords(scope)}</li>`).join("")}</ul>`;
}

/** A warning about what only the user can judge. */
export function foreignServer(name: string, server: string): string {
  return html`<p class="note warn">${server} is not part of ${name}. ${name} can do anything with your account that you allow there. Continue only if you expect ${name} to use it.</p>`;
}

/** The last page of a connection in a pop-up, with a link for browsers that lost the opener. */
export function popupDonePage(page: {
  /** Origin of the window that opened the pop-up. */
  openerOrigin: string;
  returnTo: string;
  /** Posted to the opener. */
  message: Readonly<Record<string, string | boolean | undefined>>;
  title: string;
  text: string;
  /** URL of `popupScript`. */
  script: string;
}): string {
  return layout({
    title: page.title,
    content: html`<h1>${page.title}</h1>
<p>${page.text}</p>
<p id="done" class="actions" data-origin="${page.openerOrigin}" data-message="${JSON.stringify(page.message)}"><a class="button primary" href="${page.returnTo}">Continue</a></p>
<script src="${page.script}" defer></script>`,
  });
}

/** Our only script: notifies the opener at its exact origin, then closes. The message is in the page's attributes. */
export const popupScript = `const { origin, message } = document.getElementById("done").dataset;
if (window.opener) {
  window.opener.postMessage(JSON.parse(message), origin);
  window.close();
}
`;
