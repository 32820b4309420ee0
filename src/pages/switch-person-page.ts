import { html } from "ghtml";
import { layout } from "./layout.ts";

/** Asks before another person takes the place of the one who is signed in on this host. */
export function switchPersonPage(page: {
  readonly host: string;
  /** Who is signed in on this host. */
  readonly before: string;
  /** Who has signed in on the issuer's host. */
  readonly person: string;
  readonly action: string;
  readonly csrf: string;
  readonly code: string;
}): string {
  return layout({
    title: "Continue as another person?",
    content: html`<h1>Continue as ${page.person}?</h1>
<p>On <strong>${page.host}</strong> this browser is signed in as <strong>${page.before}</strong>. Go on only if you are <strong>${page.person}</strong>.</p>
<form method="post" action="${page.action}">
<input type="hidden" name="csrf" value="${page.csrf}">
<input type="hidden" name="code" value="${page.code}">
<p class="actions"><button class="primary" type="submit">Continue as ${page.person}</button></p>
</form>`,
  });
}
