import { html } from "ghtml";
import { timeInWords } from "../connections-page.ts";
import { buttonForm, csrfField } from "./frame.ts";
import { type ListedRoute, select, sourceWords, stateTag } from "./routes.ts";

interface Problem {
  readonly path: string;
  readonly message: string;
  readonly fix: string;
}

export interface RouteDetail extends ListedRoute {
  readonly description: string;
  /** Empty for viewers. */
  readonly to: readonly string[];
  readonly kind: string;
  readonly problems: readonly Problem[];
  readonly version?: number;
  readonly createdAt?: Date;
  readonly updatedAt?: Date;
  /** What discovery found when the route was last prepared; empty: nothing is stored, or the person is a viewer. */
  readonly discovery: readonly (readonly [term: string, value: string])[];
  /** YAML of a stored route, without secrets. */
  readonly settings?: string;
  readonly path: string;
  readonly csrf: string;
  readonly mayChange: boolean;
  /** What `doctor` has found. */
  readonly report?: string;
  readonly now: Date;
}

export function routeContent(route: RouteDetail): string {
  const time = (term: string, at: Date | undefined) =>
    at === undefined ? "" : html`<div><dt>${term}</dt><dd>!${timeInWords(at, route.now)}</dd></div>`;
  const fact = (term: string, value: string) =>
    value === "" ? "" : html`<div><dt>${term}</dt><dd>${value}</dd></div>`;
  return html`!${route.description === "" ? "" : html`<p>${route.description}</p>`}
<dl>
<div><dt>State</dt><dd>!${stateTag(route)}</dd></div>
!${fact("Id", route.id)}!${fact("URL for clients", route.url)}!${fact("Upstream", route.to.join(", "))}
!${fact("Authentication", route.auth)}!${fact("Kind", route.kind)}!${fact("Source", sourceWords[route.source])}
!${fact("Version", route.version === undefined ? "" : String(route.version))}!${time("Created", route.createdAt)}!${time("Changed", route.updatedAt)}
</dl>
!${problemList(route.problems)}
!${route.discovery.length === 0 ? "" : html`<h2>Discovery</h2><dl>!${route.discovery.map(([term, value]) => fact(term, value)).join("")}</dl>`}
!${route.mayChange ? changes(route) : ""}`;
}

function changes(route: RouteDetail): string {
  const { path, csrf } = route;
  const stored = route.source === "database";
  const version: Record<string, string> =
    route.version === undefined ? {} : { version: String(route.version) };
  const flip = route.enabled ? "Disable" : "Enable";
  const buttons = stored
    ? html`<a class="button" href="${path}/edit">Change</a>!${buttonForm({ action: `${path}/enabled`, csrf, word: flip, fields: { enabled: route.enabled ? "no" : "yes", ...version } })}`
    : "";
  const report =
    route.report === undefined
      ? ""
      : html`<h2 id="report">Report</h2><pre tabindex="0" aria-labelledby="report">${route.report}</pre>`;
  return html`!${stored ? "" : '<p class="note">The route is defined in the routes file: change it there.</p>'}
<div class="actions">!${buttons}!${buttonForm({ action: `${path}/doctor`, csrf, word: "Check the upstream" })}</div>
!${report}
!${route.settings === undefined ? "" : html`<h2 id="settings">Settings</h2><pre tabindex="0" aria-labelledby="settings">${route.settings}</pre>`}
!${stored ? deletion(route) : ""}`;
}

function deletion({ path, csrf, name, version }: RouteDetail): string {
  return html`<details class="danger"><summary>Delete this route</summary>
<form method="post" action="${path}/delete">!${csrfField(csrf)}!${version === undefined ? "" : html`<input type="hidden" name="version" value="${String(version)}">`}
<p>Users lose their connections to ${name}, also at the upstream.</p>
<label class="check"><input type="checkbox" name="confirm" value="yes" required> Delete ${name}</label>
<p class="actions"><button type="submit">Delete</button></p>
</form></details>`;
}

function problemList(problems: readonly Problem[]): string {
  if (problems.length === 0) return "";
  const items = problems.map(
    ({ path, message, fix }) =>
      html`<li><code>${path}</code> ${message}!${fix === "" ? "" : html`<br><span class="muted">${fix}</span>`}</li>`,
  );
  return html`<div class="note warn"><p>Problems:</p><ul>!${items.join("")}</ul></div>`;
}

/** The fields of the form of a route, as entered. */
export interface RouteFields {
  readonly id: string;
  readonly name: string;
  readonly from: string;
  readonly to: string;
  /** `oauth`, `none`, or another type, which the settings have. */
  readonly auth: string;
  readonly enabled: boolean;
  /** YAML of the whole entry, without secrets. */
  readonly settings: string;
}

export function routeFormContent(page: {
  readonly fields: RouteFields;
  /** Absent: a new route. */
  readonly version?: number;
  /** The type of the stored route, which may be one that only its settings describe. */
  readonly auth?: string;
  readonly csrf: string;
  readonly action: string;
  readonly back: string;
  readonly problems: readonly Problem[];
  readonly remedy?: string;
}): string {
  const { fields, version } = page;
  const isNew = version === undefined;
  const own = page.auth === undefined || ["oauth", "none"].includes(page.auth) ? [] : [page.auth];
  const types = [
    ["oauth", "OAuth: each user connects an account"],
    ["none", "None"],
    ...own.map((type) => [type, `${type}: see the settings`] as const),
    ...(isNew ? [["settings", "As in the settings below"] as const] : []),
  ] as const;
  const id = isNew
    ? html`!${field("id", "Id", fields.id, { hint: "Users’ connections are stored under it. Derived from the URL if left empty." })}`
    : html`<input type="hidden" name="version" value="${String(version)}">`;
  return html`!${problemList(page.problems)}
!${page.remedy ? html`<p class="note">${page.remedy}</p>` : ""}
<form method="post" action="${page.action}">!${csrfField(page.csrf)}
<div class="fields">
!${field("name", "Name", fields.name)}
!${id}
!${field("from", "URL for clients (from)", fields.from, { required: isNew })}
!${field("to", "Upstream (to)", fields.to, { hint: "One URL, or several with blanks between them." })}
<div><label for="auth">Authentication at the upstream</label>!${select("auth", types, fields.auth)}</div>
<label class="check"><input type="checkbox" name="enabled" value="yes"!${fields.enabled ? " checked" : ""}> Enabled</label>
<div><label for="settings">Settings</label>
<p class="hint" id="settings-hint">YAML or JSON, as an entry of the routes file. !${isNew ? "Optional." : "Secrets are not shown: those that you leave out stay."} The fields above take precedence.</p>
<textarea id="settings" name="settings" spellcheck="false" aria-describedby="settings-hint">${`\n${fields.settings}`}</textarea></div>
</div>
<p class="actions"><a class="button" href="${page.back}">Cancel</a><button class="primary" type="submit">${isNew ? "Create" : "Save"}</button></p>
</form>`;
}

function field(
  name: string,
  label: string,
  value: string,
  more: { readonly hint?: string; readonly required?: boolean } = {},
): string {
  const hint = more.hint ? html`<p class="hint" id="${name}-hint">${more.hint}</p>` : "";
  const described = more.hint ? html` aria-describedby="${name}-hint"` : "";
  return html`<div><label for="${name}">${label}</label>!${hint}<input type="text" id="${name}" name="${name}" value="${value}"!${described}!${more.required ? " required" : ""}></div>`;
}
