import { html } from "ghtml";
import { layout } from "./layout.ts";

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
