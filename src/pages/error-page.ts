import { html } from "ghtml";
import { layout } from "./layout.ts";

/** What went wrong in words, what the person can do, and the id that finds it in the logs (F5.6). */
export function errorPage(page: {
  title: string;
  /** What happened. */
  happened: string;
  /** What to do about it. */
  remedy: string;
  requestId: string;
  /** Machine word, for the people who run this. */
  code?: string;
  action?: { readonly label: string; readonly href: string };
}): string {
  const button = page.action
    ? html`<p class="actions"><a class="button primary" href="${page.action.href}">${page.action.label}</a></p>`
    : "";
  const code = page.code ? html`<div><dt>Error</dt><dd><code>${page.code}</code></dd></div>` : "";
  return layout({
    title: page.title,
    content: html`<h1>${page.title}</h1>
<p>${page.happened}</p>
<p>${page.remedy}</p>
!${button}
<dl>!${code}<div><dt>Request id</dt><dd><code>${page.requestId}</code></dd></div></dl>
<p class="muted">If it keeps happening, send the request id to the people who run this service.</p>`,
  });
}

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
