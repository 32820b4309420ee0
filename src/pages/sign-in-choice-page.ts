import { html } from "ghtml";
import { layout } from "./layout.ts";

/** Where several OpenID providers are configured: one link per provider. */
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
