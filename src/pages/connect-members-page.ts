import { html } from "ghtml";
import type { Route } from "../model/route.ts";
import { icon, layout } from "./layout.ts";

/** The members of an aggregated route that need the user's consent, each with the state of its connection. */
export interface ConnectMembersPage {
  /** Name of the MCP client. */
  readonly client?: string;
  /** Name of the aggregated route. */
  readonly server: string;
  readonly person: string;
  readonly members: readonly (Pick<Route, "name" | "description" | "resource" | "logoUrl"> & {
    /** Names it in the form. */
    readonly key: string;
    readonly state: "connected" | "missing" | "skipped";
    /** Why the latest attempt failed, as a sentence. */
    readonly problem?: string;
  })[];
  /** Sent along with every button. */
  readonly progress: readonly (readonly [name: string, value: string])[];
  readonly action: string;
  readonly csrf: string;
  /** The portal, where members can be connected later. */
  readonly connections: string;
}

type Member = ConnectMembersPage["members"][number];

/** A form per member with the buttons `decision=connect` and `decision=skip`, and one with `decision=continue`. */
export function connectMembersPage(page: ConnectMembersPage): string {
  const client = page.client ?? "The application";
  return layout({
    wide: true,
    title: `Connect the servers of ${page.server}`,
    content: html`<h1>Connect the servers of ${page.server}</h1>
<p><bdi>${client}</bdi> may use these servers as ${page.person}. Each asks once, on its own page, whether this gateway may use your account there.</p>
<h2 id="members">Servers that need your account</h2>
<ul class="rows" aria-labelledby="members">!${page.members.map((member) => row(member, page)).join("\n")}</ul>
<p class="muted">Whatever you skip can be connected later, from the application or under <a href="${page.connections}">your connections</a>.</p>
<form method="post" action="${page.action}">!${hidden(page)}
<p class="actions"><button type="submit" name="decision" value="continue">Continue</button></p>
</form>`,
  });
}

const tags = {
  connected: { tag: "good", word: "Connected" },
  missing: { tag: "warn", word: "Not connected" },
  skipped: { tag: "plain", word: "Skipped" },
} as const;

function row(member: Member, page: ConnectMembersPage): string {
  const { name, description, resource, logoUrl, state, problem } = member;
  const { tag, word } = tags[state];
  return html`<li>
!${icon(name, logoUrl)}
<div class="what"><h3>${name} <span class="tag ${tag}">${word}</span></h3>
!${description ? html`<p>${description}</p>` : ""}
<p class="mono muted">${resource}</p>
!${problem ? html`<p class="problem" role="alert">${name} was not connected: ${problem}</p>` : ""}</div>
!${state === "connected" ? "" : buttons(member, page)}
</li>`;
}

function buttons({ key, name, state, problem }: Member, page: ConnectMembersPage): string {
  const about = html`<span class="hidden"> ${name}</span>`;
  const skip =
    state === "skipped"
      ? ""
      : html`<button type="submit" name="decision" value="skip">Skip!${about}</button>`;
  return html`<form method="post" action="${page.action}">!${hidden(page)}<input type="hidden" name="member" value="${key}">
<p class="stack"><button class="primary" type="submit" name="decision" value="connect">${problem ? "Try again" : "Connect"}!${about}</button>!${skip}</p>
</form>`;
}

function hidden({ csrf, progress }: ConnectMembersPage): string {
  return [["csrf", csrf] as const, ...progress]
    .map(([name, value]) => html`<input type="hidden" name="${name}" value="${value}">`)
    .join("");
}
