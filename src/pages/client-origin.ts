import { html } from "ghtml";

/** A tag that says who vouches for an MCP client, as HTML. */
export function clientOrigin(client: {
  readonly id: string;
  /** `document`: its metadata stand at `id`'s host; `registered`: it said its name itself; `known`: an operator entered it. */
  readonly source: "document" | "registered" | "known";
}): string {
  if (client.source === "known") return html`<span class="tag good">Entered by your administrator</span>`;
  if (client.source === "document") {
    return html`<span class="tag">Published by ${URL.parse(client.id)?.host ?? client.id}</span>`;
  }
  return html`<span class="tag warn">Not verified</span>`;
}
