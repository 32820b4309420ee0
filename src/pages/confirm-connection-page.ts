import { html } from "ghtml";
import type { Route } from "../model/route.ts";
import { icon, layout, scopeInWords } from "./layout.ts";

/** What users have to know before they connect an upstream account to their account here. */
export interface ConfirmConnectionPage {
  readonly route: Pick<Route, "name" | "description" | "resource" | "logoUrl">;
  readonly person: string;
  /** The authorization server that the browser goes to next. */
  readonly upstream: {
    /** Its host. */
    readonly server: string;
    /** Whether it belongs to another site than the MCP server. */
    readonly foreign: boolean;
    readonly scopes: readonly string[];
    /** Scopes that the server has not requested before. */
    readonly added: readonly string[];
  };
  /** Host that the browser returns to. */
  readonly returnHost: string;
  readonly action: string;
  readonly csrf: string;
  readonly switchAccount: string;
}

/** One form, two buttons: `decision=allow` and `decision=deny`. */
export function confirmConnectionPage(page: ConfirmConnectionPage): string {
  const { route } = page;
  const { server, foreign, scopes, added } = page.upstream;
  const others = scopes.filter((scope) => !added.includes(scope));
  const description = route.description ? html`<p class="muted">${route.description}</p>` : "";
  return layout({
    title: `Connect ${route.name}?`,
    content: html`<div class="head">!${icon(route.name, route.logoUrl)}<h1>Connect ${route.name} as ${page.person}?</h1></div>
!${description}
<dl>
<div><dt>Server</dt><dd><span class="mono">${route.resource}</span></dd></div>
<div><dt>Signed in as</dt><dd>${page.person} <a class="nowrap" href="${page.switchAccount}">Not you?</a></dd></div>
<div><dt>Returns to</dt><dd><strong>${page.returnHost}</strong></dd></div>
</dl>
!${foreign ? foreignServer(route.name, server) : ""}
!${added.length > 0 ? html`<h2>${route.name} now asks for more</h2>!${list(added)}` : ""}
!${others.length > 0 ? html`<h2>It will be able to</h2>!${list(others)}` : ""}
<p>Next, <strong>${server}</strong> asks whether this gateway may use your account there. Continue only if you have just asked to connect it.</p>
<form method="post" action="${page.action}">
<input type="hidden" name="csrf" value="${page.csrf}">
<input type="hidden" name="server" value="${server}">
<input type="hidden" name="scope" value="${scopes.join(" ")}">
<p class="actions"><button type="submit" name="decision" value="deny">Cancel</button><button class="primary" type="submit" name="decision" value="allow">Connect</button></p>
</form>`,
  });
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
