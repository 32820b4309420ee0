import { html } from "ghtml";
import { layout } from "./layout.ts";

/** Asks before signing out; the form carries the session's CSRF token. */
export function signOutPage(page: {
  person: string;
  action: string;
  csrf: string;
  /** The portal. */
  connections: string;
}): string {
  return layout({
    title: "Sign out",
    content: html`<h1>Sign out?</h1>
<p>You are signed in as <strong>${page.person}</strong>. Signing out ends your session here and on every server you reached from it in this browser.</p>
<p class="muted">Applications you allowed keep their access until you revoke it under <a href="${page.connections}">your connections</a>.</p>
<form method="post" action="${page.action}">
<input type="hidden" name="csrf" value="${page.csrf}">
<p class="actions"><a class="button" href="${page.connections}">Stay signed in</a><button class="primary" type="submit">Sign out</button></p>
</form>`,
  });
}
