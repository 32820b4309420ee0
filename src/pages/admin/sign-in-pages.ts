import { html } from "ghtml";
import { layout } from "../layout.ts";
import { adminStyle, csrfField } from "./frame.ts";

/** On the private port: asks for the one-time code. */
export function enterCodePage(page: {
  /** URL of the page that shows a code. */
  readonly codePage: string;
  readonly problem?: string;
}): string {
  const problem = page.problem ? html`<p class="note warn" role="alert">${page.problem}</p>` : "";
  return layout({
    title: "Administration",
    style: adminStyle.css,
    content: html`<h1>MCP gateway administration</h1>
!${problem}
<p>Get a one-time code at <a href="${page.codePage}" target="_blank" rel="noopener noreferrer">${page.codePage}</a>, where you sign in, and enter it here.</p>
<form method="post" action="/admin/sign-in">
<div class="fields"><div><label for="code">One-time code</label>
<input type="text" id="code" name="code" required autocomplete="off" autocapitalize="characters" spellcheck="false" maxlength="40"></div></div>
<p class="actions"><button class="primary" type="submit">Sign in</button></p>
</form>`,
  });
}

/** On the issuer's host: a button that creates a code. */
export function codeOfferPage(page: {
  readonly person: string;
  readonly role: "admin" | "viewer";
  readonly action: string;
  readonly csrf: string;
  /** Minutes. */
  readonly lifetime: number;
}): string {
  return layout({
    title: "Administration",
    style: adminStyle.css,
    content: html`<h1>Sign in to the administration</h1>
<p>You may use the administration of this gateway as !${page.role === "admin" ? "an <strong>administrator</strong>" : "a <strong>viewer</strong>"}. It is on the gateway's private port, and asks for a one-time code.</p>
<dl><div><dt>Signed in as</dt><dd>${page.person}</dd></div></dl>
<p class="note warn">Show the code to nobody, and enter it only at the private port of your gateway. It is valid once, for ${page.lifetime} minutes.</p>
<form method="post" action="${page.action}">!${csrfField(page.csrf)}
<p class="actions"><button class="primary" type="submit">Show a code</button></p>
</form>`,
  });
}

/** The code, once. */
export function codePage(page: {
  readonly code: string;
  readonly lifetime: number;
  readonly back: string;
}): string {
  return layout({
    title: "One-time code",
    style: adminStyle.css,
    content: html`<h1>Your one-time code</h1>
<p class="code mono">${page.code}</p>
<p>Enter it at <code>/admin/</code> on the private port. It is valid once, for ${page.lifetime} minutes. When you sign out here, the administration is signed out, too.</p>
<p class="actions"><a class="button" href="${page.back}">Back</a></p>`,
  });
}
