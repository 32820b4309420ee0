import { html } from "ghtml";
import { layout } from "./layout.ts";

/** Offers one link per sign-in provider. */
export function signInChoicePage(page: {
  host: string;
  providers: readonly { readonly name: string; readonly href: string }[];
}): string {
  const links = page.providers
    .map((provider) => html`<a class="button" href="${provider.href}">Continue with ${provider.name}</a>`)
    .join("\n");
  return layout({
    title: "Sign in",
    content: html`<h1>Sign in</h1>
<p>Choose the account to use at <strong>${page.host}</strong>.</p>
<nav class="stack" aria-label="Ways to sign in">!${links}</nav>`,
  });
}

/** Asks before another user replaces the one who is signed in on this host. */
export function switchPersonPage(page: {
  readonly host: string;
  /** The user who is signed in on this host. */
  readonly before: string;
  /** The user who has signed in on the issuer's host. */
  readonly person: string;
  readonly action: string;
  readonly csrf: string;
  readonly code: string;
}): string {
  return layout({
    title: "Continue as another user?",
    content: html`<h1>Continue as ${page.person}?</h1>
<p>On <strong>${page.host}</strong> this browser is signed in as <strong>${page.before}</strong>. Continue only if you are <strong>${page.person}</strong>.</p>
<form method="post" action="${page.action}">
<input type="hidden" name="csrf" value="${page.csrf}">
<input type="hidden" name="code" value="${page.code}">
<p class="actions"><button class="primary" type="submit">Continue as ${page.person}</button></p>
</form>`,
  });
}

/** What the button on the sign-out page ends. */
const signOutWords = {
  browser: {
    button: "Sign out",
    ends: "Signing out ends your session here and on all servers of this gateway in this browser.",
    keeps: "Applications you allowed keep their access until you revoke it under",
  },
  everything: {
    button: "Sign out everywhere",
    ends: "Signing out ends your sessions in all browsers, and the access of all applications you allowed: each must be allowed again.",
    keeps: "The gateway keeps your connections to servers until you disconnect them under",
  },
} as const;

/** Asks for confirmation before signing out. */
export function signOutPage(page: {
  person: string;
  action: string;
  csrf: string;
  /** The portal. */
  connections: string;
  ends: keyof typeof signOutWords;
}): string {
  const { button, ends, keeps } = signOutWords[page.ends];
  return layout({
    title: "Sign out",
    content: html`<h1>${button}?</h1>
<p>You are signed in as <strong>${page.person}</strong>. ${ends}</p>
<p class="muted">${keeps} <a href="${page.connections}">your connections</a>.</p>
<form method="post" action="${page.action}">
<input type="hidden" name="csrf" value="${page.csrf}">
<p class="actions"><a class="button" href="${page.connections}">Stay signed in</a><button class="primary" type="submit">${button}</button></p>
</form>`,
  });
}

/** Reports, before anything is asked, that policy denies the user access to a server. Its form returns to the client. */
export function notAllowedPage(page: {
  /** Name of the server. */
  readonly server: string;
  readonly person: string;
  /** Where the response goes. */
  readonly target: string;
  readonly action: string;
  readonly csrf: string;
  readonly switchAccount: string;
  /** The portal, which lists the servers that the user may use. */
  readonly connections: string;
  readonly requestId: string;
}): string {
  return layout({
    title: `You may not use ${page.server}`,
    content: html`<h1>You may not use ${page.server}</h1>
<p>You are signed in, but the policy of this gateway does not give you access to this server. Nothing was connected.</p>
<p>Ask your administrator for access, or sign in with another account. <a href="${page.connections}">Your connections</a> lists the servers you may use, and what the gateway knows about you.</p>
<form method="post" action="${page.action}">
<input type="hidden" name="csrf" value="${page.csrf}">
<p class="actions"><a class="button" href="${page.switchAccount}">Use another account</a><button class="primary" type="submit" name="decision" value="deny">Back to the application</button></p>
</form>
<dl>
<div><dt>Signed in as</dt><dd>${page.person}</dd></div>
<div><dt>Redirects to</dt><dd><strong>${page.target}</strong></dd></div>
<div><dt>Error</dt><dd><code>not_allowed</code></dd></div>
<div><dt>Request id</dt><dd><code>${page.requestId}</code></dd></div>
</dl>`,
  });
}
