import { html } from "ghtml";
import { facts, pager } from "./frame.ts";

/** A route in the list. */
export interface ListedRoute {
  readonly id: string;
  readonly name: string;
  /** The URL for MCP clients; "" if the entry cannot be read. */
  readonly url: string;
  readonly source: "file" | "database";
  readonly auth: string;
  readonly enabled: boolean;
  readonly inForce: boolean;
}

export function routesContent(page: {
  readonly routes: readonly ListedRoute[];
  /** Of those that match. */
  readonly total: number;
  readonly filter: { readonly text?: string; readonly state?: string; readonly source?: string };
  readonly first?: string;
  readonly next?: string;
  readonly mayChange: boolean;
}): string {
  const { filter } = page;
  const add = page.mayChange ? '<p><a class="button primary" href="/admin/new-route">New route</a></p>' : "";
  const states = [
    ["", "Any state"],
    ["enabled", "In force"],
    ["disabled", "Disabled"],
    ["not_in_force", "Not in force"],
  ] as const;
  const sources = [
    ["", "Any source"],
    ["file", "Routes file"],
    ["database", "Database"],
  ] as const;
  const found = page.total === 1 ? "1 route" : `${page.total} routes`;
  return html`<form method="get" action="/admin/routes" role="search" class="filter">
<div><label for="q">Name, id or URL</label><input type="search" id="q" name="q" value="${filter.text ?? ""}"></div>
<div><label for="state">State</label>!${select("state", states, filter.state)}</div>
<div><label for="source">Source</label>!${select("source", sources, filter.source)}</div>
<button type="submit">Filter</button>
</form>
!${add}
<h2>${found}</h2>
!${page.total === 0 ? '<p class="empty">No route matches.</p>' : html`<ul class="rows flat">!${page.routes.map(routeRow).join("\n")}</ul>`}
!${pager(page)}`;
}

/** A drop-down list; its id is its name. */
export function select(
  name: string,
  options: readonly (readonly [value: string, label: string])[],
  chosen: string | undefined,
): string {
  const items = options.map(
    ([value, label]) =>
      html`<option value="${value}"!${value === (chosen ?? "") ? " selected" : ""}>${label}</option>`,
  );
  return html`<select id="${name}" name="${name}">!${items.join("")}</select>`;
}

/** The state of a route, as a tag. */
export function stateTag({ enabled, inForce }: Pick<ListedRoute, "enabled" | "inForce">): string {
  if (!inForce) return '<span class="tag warn">Not in force</span>';
  return enabled ? '<span class="tag good">In force</span>' : '<span class="tag plain">Disabled</span>';
}

export const sourceWords = { file: "routes file", database: "database" } as const;

function routeRow(route: ListedRoute): string {
  return html`<li><div class="what"><h3><a href="/admin/routes/${encodeURIComponent(route.id)}">${route.name}</a> !${stateTag(route)}</h3>
<p class="mono muted">${route.url}</p>
!${facts([
    ["Id", html`${route.id}`],
    ["Source", sourceWords[route.source]],
    ...(route.auth === "" ? [] : [["Authentication", html`${route.auth}`] as const]),
  ])}</div></li>`;
}
