import { html } from "ghtml";
import { stylesheet } from "./stylesheet.ts";

/** The logo: a gate with an arrow through it. */
const emblem = `<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2.2" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"><path d="M4 21V10a8 8 0 0 1 16 0v11"/><path d="M8 15h8m-3-3 3 3-3 3"/></svg>`;

/** An HTML document; `content` is HTML, `title` is text. `wide` is for lists; `style` is added to the stylesheet. */
export function layout(page: {
  title: string;
  content: string;
  wide?: boolean;
  footer?: string;
  style?: string;
}): string {
  const width = page.wide ? "wide" : "narrow";
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>${page.title}</title>
<style>!${stylesheet.css}</style>!${page.style ? html`<style>!${page.style}</style>` : ""}
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

/** The icon of a name, as HTML: its logo, else its first letter. */
export function icon(name: string, logoUrl?: string): string {
  const picture = logoUrl
    ? html`<img src="${logoUrl}" alt="">`
    : html`${[...name.trim()][0]?.toUpperCase() ?? "?"}`;
  return html`<span class="mark" aria-hidden="true">!${picture}</span>`;
}

/** A tag for who vouches for an MCP client, as HTML. */
export function clientOrigin(client: {
  readonly id: string;
  /** `document`: its metadata is published at the host of `id`; `registered`: it chose its name; `known`: pre-registered. */
  readonly source: "document" | "registered" | "known";
}): string {
  if (client.source === "known") return html`<span class="tag good">Added by your administrator</span>`;
  if (client.source === "document") {
    return html`<span class="tag">Published by ${URL.parse(client.id)?.host ?? client.id}</span>`;
  }
  return html`<span class="tag warn">Not verified</span>`;
}

const words: Readonly<Record<string, string>> = {
  mcp: "Use this server’s tools, prompts and resources as you",
  openid: "Know who you are",
  profile: "See your name",
  email: "See your e-mail address",
  groups: "See your groups",
  offline_access: "Stay connected while you are away",
};

/** A scope as a sentence for the consent page; unknown scopes are shown by name. */
export function scopeInWords(scope: string): string {
  return Object.hasOwn(words, scope) ? (words[scope] ?? scope) : `Use the permission “${scope}”`;
}
