import { html } from "ghtml";
import { clientOrigin, icon, layout } from "./layout.ts";

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

/** A relative time ("3 hours ago"), as HTML. The title has the exact time, in UTC because the user's time zone is unknown. */
export function timeInWords(time: Date, now: Date): string {
  const seconds = (time.getTime() - now.getTime()) / 1000;
  const [unit, size] = units.find(([, length]) => Math.abs(seconds) >= length) ?? [];
  const words = unit && size ? relative.format(Math.trunc(seconds / size), unit) : "just now";
  return html`<time datetime="${time.toISOString()}" title="${exact.format(time)} UTC">${words}</time>`;
}

/** The content of the portal. */
export interface ConnectionsPage {
  readonly person: string;
  /** What policy knows about the user, from the sign-in provider. */
  readonly known: {
    readonly userId: string;
    /** Verified addresses only. */
    readonly email?: string;
    readonly groups: readonly string[];
    /** The provider reports that there are groups, but not which. */
    readonly groupsWithheld: boolean;
    readonly checkedAt: Date;
  };
  readonly servers: readonly {
    readonly id: string;
    readonly name: string;
    readonly description: string;
    readonly logoUrl?: string;
    /** The URL for MCP clients. */
    readonly url: string;
    /** `not_allowed`: policy now denies the user access, but a connection remains. */
    readonly state: "connected" | "not_needed" | "missing" | "unavailable" | "not_allowed";
    /** A stored connection, working or not. */
    readonly connection?: { readonly connectedAt: Date; readonly lastUsedAt?: Date; readonly ends?: Date };
    /** For an aggregated route: its members that the user may use; each is also an entry of its own. */
    readonly members?: readonly {
      readonly id: string;
      readonly name: string;
      readonly state: Server["state"];
    }[];
  }[];
  /** One entry per MCP client, even with several grants. */
  readonly clients: readonly {
    readonly id: string;
    readonly name?: string;
    readonly source: "document" | "registered" | "known";
    /** Names of the servers it may use. */
    readonly servers: readonly string[];
    /** The aggregated routes among them, with the members that the client may use. */
    readonly through: readonly {
      readonly id: string;
      readonly name: string;
      readonly members: readonly { readonly id: string; readonly name: string }[];
    }[];
    readonly allowedAt: Date;
    readonly lastUsedAt: Date;
    readonly ends?: Date;
  }[];
  /** Service accounts that request delegation of this user's connections, one entry per server. */
  readonly serviceAccounts: readonly {
    readonly grantId: string;
    readonly name: string;
    readonly routeId: string;
    /** Name of the server. */
    readonly server: string;
    /** Whether there is a connection to delegate. */
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

/** The user's servers and the applications that act for the user, each with a button to change it. */
export function connectionsPage(page: ConnectionsPage): string {
  const { servers, clients, serviceAccounts } = page;
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
<p class="muted">MCP servers you may use. Some require your consent before this gateway can act for you.</p>
!${servers.length > 0 ? html`<ul class="rows">!${servers.map((server) => serverRow(server, page)).join("\n")}</ul>` : html`<p class="empty">There is no server you may use yet. Ask your administrator for access.</p>`}
</section>
<section aria-labelledby="applications">
<h2 id="applications">Applications with access</h2>
<p class="muted">MCP clients that may use servers as you, even while you are away.</p>
!${clients.length > 0 ? html`<ul class="rows">!${clients.map((client) => clientRow(client, page)).join("\n")}</ul>` : html`<p class="empty">No application has access. When you connect one, this gateway asks for your consent.</p>`}
</section>
!${serviceAccounts.length > 0 ? serviceAccountsSection(page) : ""}
!${knownSection(page)}`,
  });
}

/** Longer lists are collapsed: users can be in hundreds of groups. */
const maxGroupsShown = 20;

/** The facts that policy decides on, for users who are denied access to a server. */
function knownSection({ known, now, signOut }: ConnectionsPage): string {
  const email = known.email === undefined ? noEmail : html`${known.email}`;
  return html`<section aria-labelledby="known">
<h2 id="known">What the gateway knows about you</h2>
<p class="muted">From your sign-in provider. It decides which servers you may use. After a change at the provider, <a href="${signOut}">sign out</a> and sign in again.</p>
<dl>
<div><dt>User id</dt><dd class="mono">${known.userId}</dd></div>
<div><dt>E-mail</dt><dd>!${email}</dd></div>
<div><dt>Groups</dt><dd>!${groupsInWords(known)}</dd></div>
<div><dt>As of</dt><dd>!${timeInWords(known.checkedAt, now)}</dd></div>
</dl>
</section>`;
}

const noEmail = "Unknown: your sign-in provider sent no verified address.";

function groupsInWords({ groups, groupsWithheld }: ConnectionsPage["known"]): string {
  if (groupsWithheld)
    return "Unknown: you are in too many groups for your sign-in provider to list. Ask your administrator to change that.";
  if (groups.length === 0)
    return "None: your sign-in provider sent no groups. If you are in groups, ask your administrator to request them from the provider.";
  const list = html`<ul class="names">!${groups.map((group) => html`<li>${group}</li>`).join("")}</ul>`;
  return groups.length > maxGroupsShown
    ? html`<details><summary>${groups.length} groups</summary>!${list}</details>`
    : list;
}

/** Shown only to owners of service accounts. */
function serviceAccountsSection(page: ConnectionsPage): string {
  return html`<section aria-labelledby="service-accounts">
<h2 id="service-accounts">Service accounts</h2>
<p class="muted">Automated programs. Your administrator asks you to let them use your connections, even while you are away. They act there as you.</p>
<ul class="rows">!${page.serviceAccounts.map((account) => serviceAccountRow(account, page)).join("\n")}</ul>
</section>`;
}

function serviceAccountRow(account: ServiceAccountEntry, page: ConnectionsPage): string {
  const { name, server, delegatedAt } = account;
  const state = delegatedAt
    ? {
        tag: account.connected ? "good" : "warn",
        word: account.connected ? "Allowed" : "Not connected",
      }
    : { tag: "plain", word: "Not allowed" };
  const times = facts([
    ...(delegatedAt ? [["Allowed", timeInWords(delegatedAt, page.now)] as const] : []),
    ["Expires", timeInWords(account.ends, page.now)],
  ]);
  const asks = delegatedAt
    ? html`<p>Uses your connection to ${server}</p>`
    : html`<p>Asks to use your connection to ${server}!${account.connected ? "" : ". Connect it first"}</p>`;
  return html`<li>
!${icon(name)}
<div class="what"><h3>${name} <span class="tag ${state.tag}">${state.word}</span></h3>
!${asks}
!${times}</div>
!${serviceAccountButton(account, page)}
</li>`;
}

function serviceAccountButton(account: ServiceAccountEntry, page: ConnectionsPage): string {
  const { delegatedAt, connected, name, server } = account;
  if (!delegatedAt && !connected) return "";
  const [action, word] = delegatedAt ? ["undelegate", "Stop"] : ["delegate", "Allow"];
  return html`<form method="post" action="${page.home}/${action}">
<input type="hidden" name="csrf" value="${page.csrf}"><input type="hidden" name="account" value="${account.grantId}"><input type="hidden" name="route" value="${account.routeId}">
<button type="submit">${word}<span class="hidden"> ${name} on ${server}</span></button>
</form>`;
}

const states = {
  connected: { tag: "good", word: "Connected" },
  not_needed: { tag: "good", word: "Ready to use" },
  missing: { tag: "plain", word: "Not connected" },
  unavailable: { tag: "warn", word: "Unavailable" },
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
  const members = server.members
    ? html`<p>In front of:</p>
<ul class="names">!${server.members.map(memberItem).join("")}</ul>`
    : "";
  return html`<li id="server-${server.id}">
!${icon(server.name, server.logoUrl)}
<div class="what"><h3>${server.name} <span class="tag ${tag}">${word}</span></h3>
!${description}
<p class="mono muted">${server.url}</p>
!${members}!${times}</div>
!${serverButton(server, page)}
</li>`;
}

/** Leads to the member's own entry, where it is connected and disconnected. */
function memberItem({ id, name, state }: NonNullable<Server["members"]>[number]): string {
  const { tag, word } = states[state];
  return html`<li><a href="#server-${encodeURIComponent(id)}">${name}</a> <span class="tag ${tag}">${word}</span></li>`;
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
  const name = client.name ?? URL.parse(client.id)?.host ?? "An unnamed application";
  return html`<li>
!${icon(name)}
<div class="what"><h3>${name} !${clientOrigin(client)}</h3>
<p>May use ${new Intl.ListFormat("en").format(client.servers)}</p>
!${client.through.map((aggregate) => throughList(aggregate, client, page)).join("")}
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

/** The members of an aggregated route that a client may use, each with a button to remove it. */
function throughList(
  { id, name, members }: Client["through"][number],
  client: Client,
  page: ConnectionsPage,
): string {
  const items = members.map(
    (member) => html`<li>${member.name}<form method="post" action="${page.home}/remove-member">
<input type="hidden" name="csrf" value="${page.csrf}"><input type="hidden" name="client" value="${client.id}"><input type="hidden" name="route" value="${id}"><input type="hidden" name="member" value="${member.id}">
<button class="small" type="submit">Remove<span class="hidden"> ${member.name} from ${name} for ${client.name ?? client.id}</span></button>
</form></li>`,
  );
  return members.length === 0
    ? html`<p class="muted">Through ${name}, it may use no server.</p>`
    : html`<p class="muted">Through ${name}:</p>
<ul class="names removable">!${items.join("")}</ul>`;
}

/** Values are HTML. */
function facts(pairs: readonly (readonly [term: string, value: string])[]): string {
  return html`<dl class="facts">!${pairs.map(([term, value]) => html`<div><dt>${term}</dt><dd>!${value}</dd></div>`).join("")}</dl>`;
}
