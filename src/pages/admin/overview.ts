import { html } from "ghtml";
import { timeInWords } from "../connections-page.ts";
import { facts } from "./frame.ts";

export interface Overview {
  readonly replicas: readonly {
    readonly name: string;
    readonly version: string;
    readonly startedAt: Date;
    readonly seenAt: Date;
  }[];
  /** Number of routes that the person may see. */
  readonly routes: number;
  /** Ids of routes that are not in force. */
  readonly notInForce: readonly string[];
  /** Why the routes file was rejected. */
  readonly fileProblem?: string;
  /** Undefined: not for this person. */
  readonly problems?: readonly {
    readonly severity: "warning" | "error";
    readonly message: string;
    readonly facts: Readonly<Record<string, string>>;
    readonly count: number;
    readonly lastAt: Date;
  }[];
  readonly now: Date;
}

/** A process that has not reported itself for this time is shown as silent, ms. */
const silentMs = 120_000;

export function overviewContent(page: Overview): string {
  return html`<section aria-labelledby="replicas">
<h2 id="replicas">Replicas</h2>
<p class="muted">Processes that have reported themselves within a day. <a href="/admin/routes">${page.routes} routes</a> can be seen here.</p>
<ul class="rows flat">!${page.replicas.map((replica) => replicaRow(replica, page.now)).join("\n")}</ul>
</section>
!${page.problems === undefined ? "" : problemSections(page, page.problems)}`;
}

function replicaRow({ name, version, startedAt, seenAt }: Overview["replicas"][number], now: Date): string {
  const silent = now.getTime() - seenAt.getTime() > silentMs;
  const tag = silent ? '<span class="tag warn">Silent</span>' : '<span class="tag good">Running</span>';
  return html`<li><div class="what"><h3>${name} !${tag}</h3>
!${facts([
    ["Version", html`${version}`],
    ["Started", timeInWords(startedAt, now)],
    ["Last seen", timeInWords(seenAt, now)],
  ])}</div></li>`;
}

function problemSections(page: Overview, problems: NonNullable<Overview["problems"]>): string {
  const file = page.fileProblem
    ? html`<p class="note warn">The routes file was rejected, and the previous one stays in force: ${page.fileProblem}</p>`
    : "";
  const stored =
    page.notInForce.length === 0
      ? ""
      : html`<p class="note warn">Not in force: !${page.notInForce
          .map((id) => html`<a href="/admin/routes/${encodeURIComponent(id)}">${id}</a>`)
          .join(", ")}</p>`;
  const list =
    problems.length === 0
      ? html`<p class="empty">This process has logged neither warnings nor errors since it started.</p>`
      : html`<ul class="rows flat">!${problems.map((problem) => problemRow(problem, page.now)).join("\n")}</ul>`;
  return html`<section aria-labelledby="problems">
<h2 id="problems">Problems</h2>
!${file}!${stored}
<p class="muted">The last warnings and errors of the process that answers now. The logs of all processes have the rest.</p>
!${list}
</section>`;
}

function problemRow(problem: NonNullable<Overview["problems"]>[number], now: Date): string {
  const tag =
    problem.severity === "error"
      ? '<span class="tag warn">Error</span>'
      : '<span class="tag plain">Warning</span>';
  const times = problem.count === 1 ? "once" : `${problem.count} times`;
  return html`<li><div class="what"><h3>${problem.message} !${tag}</h3>
!${facts([
    ["Last", timeInWords(problem.lastAt, now)],
    ["Seen", html`${times}`],
    ...Object.entries(problem.facts).map(([name, value]) => [name, html`${value}`] as const),
  ])}</div></li>`;
}
