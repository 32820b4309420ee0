import { html } from "ghtml";
import { layout } from "./layout.ts";
import { mark } from "./mark.ts";

/** What a person has to know before an upstream account of theirs is connected to their account here. */
export interface ConfirmConnectionPage {
  readonly route: {
    readonly name: string;
    readonly description: string;
    readonly url: string;
    readonly logoUrl?: string;
  };
  readonly person: string;
  /** Host of the server that asks next. */
  readonly upstream: string;
  /** Host that the browser returns to. */
  readonly returnHost: string;
  readonly action: string;
  readonly csrf: string;
  readonly switchAccount: string;
}

/** One form, two buttons: `decision=allow` and `decision=deny`. */
export function confirmConnectionPage(page: ConfirmConnectionPage): string {
  const { route } = page;
  const description = route.description ? html`<p class="muted">${route.description}</p>` : "";
  return layout({
    title: `Connect ${route.name}?`,
    content: html`<div class="head">!${mark(route.name, route.logoUrl)}<h1>Connect ${route.name} as ${page.person}?</h1></div>
!${description}
<dl>
<div><dt>Server</dt><dd><span class="mono">${route.url}</span></dd></div>
<div><dt>Signed in as</dt><dd>${page.person} <a class="nowrap" href="${page.switchAccount}">Not you?</a></dd></div>
<div><dt>Returns to</dt><dd><strong>${page.returnHost}</strong></dd></div>
</dl>
<p>Next, <strong>${page.upstream}</strong> asks whether this gateway may use your account there. Go on only if you have just asked to connect it.</p>
<form method="post" action="${page.action}">
<input type="hidden" name="csrf" value="${page.csrf}">
<p class="actions"><button type="submit" name="decision" value="deny">Cancel</button><button class="primary" type="submit" name="decision" value="allow">Connect</button></p>
</form>`,
  });
}
