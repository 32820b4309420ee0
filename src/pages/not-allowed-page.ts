import { html } from "ghtml";
import { layout } from "./layout.ts";

/** Tells somebody that policy does not let them use a server, before they are asked for anything; one form back to the client. */
export function notAllowedPage(page: {
  /** Name of the server. */
  readonly server: string;
  readonly person: string;
  /** Where the answer goes. */
  readonly target: string;
  readonly action: string;
  readonly csrf: string;
  readonly switchAccount: string;
  /** The portal, which lists what they may use. */
  readonly connections: string;
  readonly requestId: string;
}): string {
  return layout({
    title: `You may not use ${page.server}`,
    content: html`<h1>You may not use ${page.server}</h1>
<p>You are signed in, but the policy of this gateway does not give you access to this server. Nothing was connected.</p>
<p>Ask the people who run this service for access, or sign in with another account. <a href="${page.connections}">Your connections</a> lists the servers you may use, and what the gateway knows about you.</p>
<form method="post" action="${page.action}">
<input type="hidden" name="csrf" value="${page.csrf}">
<p class="actions"><a class="button" href="${page.switchAccount}">Use another account</a><button class="primary" type="submit" name="decision" value="deny">Back to the application</button></p>
</form>
<dl>
<div><dt>Signed in as</dt><dd>${page.person}</dd></div>
<div><dt>Answer goes to</dt><dd><strong>${page.target}</strong></dd></div>
<div><dt>Error</dt><dd><code>not_allowed</code></dd></div>
<div><dt>Request id</dt><dd><code>${page.requestId}</code></dd></div>
</dl>`,
  });
}
