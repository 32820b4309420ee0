import { html } from "ghtml";

/** The picture in front of a name, as HTML: its logo, else its first letter. */
export function mark(name: string, logoUrl?: string): string {
  const picture = logoUrl
    ? html`<img src="${logoUrl}" alt="">`
    : html`${[...name.trim()][0]?.toUpperCase() ?? "?"}`;
  return html`<span class="mark" aria-hidden="true">!${picture}</span>`;
}
