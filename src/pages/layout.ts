import { html } from "ghtml";
import { stylesheet } from "./stylesheet.ts";

/** A gate, and the way through it. */
const emblem = `<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2.2" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"><path d="M4 21V10a8 8 0 0 1 16 0v11"/><path d="M8 15h8m-3-3 3 3-3 3"/></svg>`;

/** A whole HTML document around `content`, which is HTML already; `title` is text. `wide` suits listings. */
export function layout(page: { title: string; content: string; wide?: boolean; footer?: string }): string {
  const width = page.wide ? "wide" : "narrow";
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>${page.title}</title>
<style>!${stylesheet.css}</style>
</head>
<body>
<header class="${width}">!${emblem}<span>MCP gateway</span></header>
<main class="${width}">
!${page.content}
</main>
<footer>!${page.footer ?? ""}</footer>
</body>
</html>
`;
}
