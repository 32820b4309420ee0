import { html } from "ghtml";
import { stylesheet } from "./stylesheet.ts";

/** A whole HTML document around `content`, which is HTML already; `title` is text. `wide` suits listings. */
export function layout(page: { title: string; content: string; wide?: boolean; footer?: string }): string {
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
<main class="${page.wide ? "wide" : "narrow"}">
!${page.content}
</main>
<footer>!${page.footer ?? ""}</footer>
</body>
</html>
`;
}
