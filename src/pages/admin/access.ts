import { html } from "ghtml";
import { timeInWords } from "../connections-page.ts";
import { buttonForm, facts, pager } from "./frame.ts";

interface Listing {
  readonly csrf: string;
  readonly first?: string;
  readonly next?: string;
  readonly now: Date;
}

export function connectionsContent(
  page: Listing & {
    readonly connections: readonly {
      readonly userId: string;
      readonly routeId: string;
      readonly upstream: string;
      readonly connectedAt: Date;
      readonly updatedAt: Date;
      readonly expiresAt?: Date;
      readonly refreshable: boolean;
    }[];
    readonly filter: { readonly userId?: string; readonly routeId?: string };
  },
): string {
  const { filter, csrf, now } = page;
  const rows = page.connections.map(
    (one) => html`<li><div class="what"><h3>${one.userId}</h3>
<p class="mono muted">${one.routeId} → ${one.upstream}</p>
!${facts([
      ["Connected", timeInWords(one.connectedAt, now)],
      ["Refreshed", timeInWords(one.updatedAt, now)],
      [
        "Expires",
        one.refreshable ? "renewed automatically" : one.expiresAt ? timeInWords(one.expiresAt, now) : "never",
      ],
    ])}</div>
!${buttonForm({
      action: "/admin/connections/revoke",
      csrf,
      word: "Revoke",
      label: `the connection of ${one.userId} to ${one.routeId}`,
      fields: { user: one.userId, route: one.routeId, upstream: one.upstream },
    })}</li>`,
  );
  return html`<p class="muted">Upstream tokens that the gateway keeps for users. Tokens are never shown.</p>
!${filterForm("/admin/connections", [
    ["user", "User", filter.userId],
    ["route", "Route", filter.routeId],
  ])}
<h2 class="hidden">Connections</h2>
!${list(rows, "No connection matches.")}
!${pager(page)}`;
}

export function grantsContent(
  page: Listing & {
    readonly grants: readonly {
      readonly grantId: string;
      readonly userId: string;
      readonly clientId: string;
      readonly clientName?: string;
      readonly createdAt: Date;
      readonly lastUsedAt: Date;
    }[];
    readonly filter: { readonly userId?: string; readonly clientId?: string };
  },
): string {
  const { filter, csrf, now } = page;
  const rows = page.grants.map(
    (one) => html`<li><div class="what"><h3>${one.userId}</h3>
!${one.clientName === undefined ? "" : html`<p><bdi>${one.clientName}</bdi></p>`}<p class="mono muted">${one.clientId}</p>
!${facts([
      ["Granted", timeInWords(one.createdAt, now)],
      ["Last used", timeInWords(one.lastUsedAt, now)],
      ["Id", html`<span class="mono">${one.grantId}</span>`],
    ])}</div>
!${buttonForm({
      action: "/admin/grants/revoke",
      csrf,
      word: "Revoke",
      label: `the grant of ${one.userId} for ${one.clientId}`,
      fields: { grant: one.grantId },
    })}</li>`,
  );
  return html`<p class="muted">What users have allowed MCP clients to do, and service accounts.</p>
!${filterForm("/admin/grants", [
    ["user", "User", filter.userId],
    ["client", "Client id", filter.clientId],
  ])}
<h2 class="hidden">Grants</h2>
!${list(rows, "No grant matches.")}
!${pager(page)}`;
}

function filterForm(
  action: string,
  fields: readonly (readonly [name: string, label: string, value: string | undefined])[],
): string {
  const inputs = fields.map(
    ([name, label, value]) =>
      html`<div><label for="${name}">${label}</label><input type="search" id="${name}" name="${name}" value="${value ?? ""}"></div>`,
  );
  return html`<form method="get" action="${action}" role="search" class="filter">!${inputs.join("")}<button type="submit">Filter</button></form>`;
}

/** Rows are HTML. */
function list(rows: readonly string[], empty: string): string {
  return rows.length === 0
    ? html`<p class="empty">${empty}</p>`
    : html`<ul class="rows flat">!${rows.join("\n")}</ul>`;
}
