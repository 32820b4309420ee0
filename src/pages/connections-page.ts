import { html } from "ghtml";
import { clientOrigin, layout, mark } from "./layout.ts";

const units = [
  ["year", 31_536_000],
  ["month", 2_592_000],
  ["week", 604_800],
  ["day", 86_400],
  ["hour", 3600],
  ["minute", 60],
] as const;
const relative = new Intl.RelativeTimeFormat("en", { numeric: "always" });
const exact = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short", timeZone: "UTC" });

/** A time as people say it ("3 hours ago"), as HTML; the exact one is in the title, since we do not know the reader's time zone. */
export function timeInWords(time: Date, now: Date): string {
  const seconds = (time.getTime() - now.getTime()) / 1000;
  const [unit, size] = units.find(([, length]) => Math.abs(seconds) >= length) ?? [];
  const words = unit && size ? relative.format(Math.trunc(seconds / size), unit) : "just now";
  return html`<time datetime="${time.toISOString()}" title="${exact.format(time)} UTC">${words}</time>`;
}

/** What the portal shows. */
export interface ConnectionsPage {
  readonly person: string;
  /** What policy knows of the person, as their sign-in provider says. */
  readonly known: {
    readonly userId: string;
    /** Absent: none that counts. */
    readonly email?: string;
    readonly groups: readonly string[];
    /** The provider says that there are groups, and not which. */
    readonly groupsWithheld: boolean;
    readonly checkedAt: Date;
  };
  readonly servers: readonly {
    readonly id: string;
    readonly name: string;
    readonly description: string;
    readonly logoUrl?: string;
    /** Where MCP clients reach it. */
    readonly url: string;
    /** `not_allowed`: policy lets this person use it no longer, but a connection is left. */
    readonly state: "connected" | "not_needed" | "missing" | "unavailable" | "not_allowed";
    /** A stored connection, working or not. */
    readonly connection?: { readonly connectedAt: Date; readonly lastUsedAt?: Date; readonly ends?: Date };
  }[];
  /** One per MCP client, however often it was allowed. */
  readonly clients: readonly {
    readonly id: string;
    readonly name?: string;
    readonly source: "document" | "registered" | "known";
    /** Names of the servers it may use. */
    readonly servers: readonly string[];
    readonly allowedAt: Date;
    readonly lastUsedAt: Date;
    readonly ends?: Date;
  }[];
  /** Service accounts that ask for the use of this person's connections, one entry per server. */
  readonly serviceAccounts: readonly {
    readonly grantId: string;
    readonly name: string;
    readonly routeId: string;
    /** Name of the server. */
    readonly server: string;
    /** There is a connection to delegate. */
    readonly connected: boolean;
    readonly delegatedAt?: Date;
    readonly ends: Date;
  }[];
  readonly notice?: { readonly kind: "done" | "problem"; readonly text: string };
  readonly csrf: string;
  /** Path of this page; its forms post below it. */
  readonly home: string;
  readonly signOut: string;
  readonly now: Date;
}

type Server = ConnectionsPage["servers"][number];
type Client = ConnectionsPage["clients"][number];
type ServiceAccountEntry = ConnectionsPage["serviceAccounts"][number];

/** A person's servers and the applications that act for them, each with the button that changes it. */
export function connectionsPage(page: ConnectionsPage): string {
  const { servers, clients, serviceAccounts: machines } = page;
  const notice = page.notice
    ? html`<p class="note ${page.notice.kind === "done" ? "good" : "warn"}" role="status">${page.notice.text}</p>`
    : "";
  return layout({
    title: "Your connections",
    wide: true,
    content: html`<div class="top"><h1>Your connections</h1><p class="who"><span>${page.person}</span> <a href="${page.signOut}">Sign out</a></p></div>
!${notice}
<section aria-labelledby="servers">
<h2 id="servers">Servers</h2>
<p class="muted">MCP servers you may use. Some ask for your consent before they let this gateway act for you.</p>
!${servers.length > 0 ? html`<ul class="rows">!${servers.map((server) => serverRow(server, page)).join("\n")}</ul>` : html`<p class="empty">There is no server you may use yet. The people who run this service decide who may use which.</p>`}
</section>
<section aria-labelledby="applications">
<h2 id="applications">Applications with access</h2>
<p class="muted">MCP clients you have allowed to use servers as you, also while you are away.</p>
!${clients.length > 0 ? html`<ul class="rows">!${clients.map((client) => clientRow(client, page)).join("\n")}</ul>` : html`<p class="empty">No application has access. One that wants it sends you here, and you decide.</p>`}
</section>
!${machines.length > 0 ? serviceAccountsSection(page) : ""}
!${knownSection(page)}`,
  });
}

/** Longer lists are folded: people are in hundreds of groups. */
const groupsShown = 20;

/** By these the operator's policy decides: who misses a server sees here what the gateway goes by. */
function knownSection({ known, now, signOut }: ConnectionsPage): string {
  const email = known.email === undefined ? noEmail : html`${known.email}`;
  return html`<section aria-labelledby="known">
<h2 id="known">What the gateway knows about you</h2>
<p class="muted">From your sign-in provider. Which servers you may use depends on it. After a change at the provider, <a href="${signOut}">sign out</a> and in again.</p>
<dl>
<div><dt>User id</dt><dd class="mono">${known.userId}</dd></div>
<div><dt>E-mail</dt><dd>!${email}</dd></div>
<div><dt>Groups</dt><dd>!${groupsInWords(known)}</dd></div>
<div><dt>As of</dt><dd>!${timeInWords(known.checkedAt, now)}</dd></div>
</dl>
</section>`;
}

const noEmail = "Unknown: your sign-in provider sent no address, or one that it does not vouch for.";

function groupsInWords({ groups, groupsWithheld }: ConnectionsPage["known"]): string {
  if (groupsWithheld)
    return "Unknown: your sign-in provider says that you are in groups, but not in which (there are too many to list). The people who run this service can change that.";
  if (groups.length === 0)
    return "None: your sign-in provider sent no groups. If you are in some, it may send them only when the people who run this service ask for them.";
  const list = html`<ul class="names">!${groups.map((group) => html`<li>${group}</li>`).join("")}</ul>`;
  return groups.length > groupsShown
    ? html`<details><summary>${groups.length} groups</summary>!${list}</details>`
    : list;
}

/** Only for those whom an operator has named as an owner: others need not know of it. */
function serviceAccountsSection(page: ConnectionsPage): string {
  return html`<section aria-labelledby="machines">
<h2 id="machines">Service accounts</h2>
<p class="muted">Programs without a person at them. The people who run this service ask you to let these use your own connection, also while you are away; what they do there is done as you.</p>
<ul class="rows">!${page.serviceAccounts.map((machine) => serviceAccountRow(machine, page)).join("\n")}</ul>
</section>`;
}

function serviceAccountRow(machine: ServiceAccountEntry, page: ConnectionsPage): string {
  const { name, server, delegatedAt } = machine;
  const state = delegatedAt
    ? {
        tag: machine.connected ? "good" : "warn",
        word: machine.connected ? "Allowed" : "Needs you to connect",
      }
    : { tag: "plain", word: "Not allowed" };
  const times = facts([
    ...(delegatedAt ? [["Allowed", timeInWords(delegatedAt, page.now)] as const] : []),
    ["Expires", timeInWords(machine.ends, page.now)],
  ]);
  const asks = delegatedAt
    ? html`<p>Uses your connection to ${server}</p>`
    : html`<p>Asks to use your connection to ${server}!${machine.connected ? "" : ". Connect it first"}</p>`;
  return html`<li>
!${mark(name)}
<div class="what"><h3>${name} <span class="tag ${state.tag}">${state.word}</span></h3>
!${asks}
!${times}</div>
!${serviceAccountButton(machine, page)}
</li>`;
}

function serviceAccountButton(machine: ServiceAccountEntry, page: ConnectionsPage): string {
  const { delegatedAt, connected, name, server } = machine;
  if (!delegatedAt && !connected) return "";
  const [action, word] = delegatedAt ? ["undelegate", "Stop"] : ["delegate", "Allow"];
  return html`<form method="post" action="${page.home}/${action}">
<input type="hidden" name="csrf" value="${page.csrf}"><input type="hidden" name="account" value="${machine.grantId}"><input type="hidden" name="route" value="${machine.routeId}">
<button type="submit">${word}<span class="hidden"> ${name} on ${server}</span></button>
</form>`;
}

const states = {
  connected: { tag: "good", word: "Connected" },
  not_needed: { tag: "good", word: "Ready to use" },
  missing: { tag: "plain", word: "Not connected" },
  unavailable: { tag: "warn", word: "Cannot be reached" },
  not_allowed: { tag: "warn", word: "No longer allowed" },
} as const;

function serverRow(server: Server, page: ConnectionsPage): string {
  const { tag, word } = states[server.state];
  const { connection } = server;
  const times = connection
    ? facts([
        ["Connected", timeInWords(connection.connectedAt, page.now)],
        ["Last used", connection.lastUsedAt ? timeInWords(connection.lastUsedAt, page.now) : "not yet"],
        ["Expires", connection.ends ? timeInWords(connection.ends, page.now) : "when disconnected"],
      ])
    : "";
  const description = server.description ? html`<p>${server.description}</p>` : "";
  return html`<li>
!${mark(server.name, server.logoUrl)}
<div class="what"><h3>${server.name} <span class="tag ${tag}">${word}</span></h3>
!${description}
<p class="mono muted">${server.url}</p>
!${times}</div>
!${serverButton(server, page)}
</li>`;
}

function serverButton(server: Server, page: ConnectionsPage): string {
  const button = (action: string, word: string, kind: string) =>
    html`<form method="post" action="${page.home}/${action}">
<input type="hidden" name="csrf" value="${page.csrf}"><input type="hidden" name="route" value="${server.id}">
<button class="${kind}" type="submit">${word}<span class="hidden"> ${server.name}</span></button>
</form>`;
  if (server.state === "missing") return button("connect", "Connect", "primary");
  return server.connection ? button("disconnect", "Disconnect", "") : "";
}

function clientRow(client: Client, page: ConnectionsPage): string {
  const name = client.name ?? URL.parse(client.id)?.host ?? "An application without a name";
  return html`<li>
!${mark(name)}
<div class="what"><h3>${name} !${clientOrigin(client)}</h3>
<p>May use ${new Intl.ListFormat("en").format(client.servers)}</p>
!${facts([
    ["Allowed", timeInWords(client.allowedAt, page.now)],
    ["Last active", timeInWords(client.lastUsedAt, page.now)],
    ["Expires", client.ends ? timeInWords(client.ends, page.now) : "when revoked"],
  ])}</div>
<form method="post" action="${page.home}/revoke">
<input type="hidden" name="csrf" value="${page.csrf}"><input type="hidden" name="client" value="${client.id}">
<button type="submit">Revoke<span class="hidden"> access of ${name}</span></button>
</form>
</li>`;
}

/** Values are HTML already. */
function facts(pairs: readonly (readonly [term: string, value: string])[]): string {
  return html`<dl class="facts">!${pairs.map(([term, value]) => html`<div><dt>${term}</dt><dd>!${value}</dd></div>`).join("")}</dl>`;
}
