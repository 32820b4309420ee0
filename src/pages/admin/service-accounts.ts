import { html } from "ghtml";
import { timeInWords } from "../connections-page.ts";
import { buttonForm, csrfField, facts, pager } from "./frame.ts";

export function serviceAccountsContent(page: {
  readonly accounts: readonly {
    readonly name: string;
    readonly routeIds: readonly string[];
    readonly ownerId?: string;
    readonly createdAt: Date;
    readonly expiresAt: Date;
  }[];
  readonly csrf: string;
  readonly first?: string;
  readonly next?: string;
  /** What the form shows. */
  readonly entered: {
    readonly name: string;
    readonly routes: string;
    readonly owner: string;
    readonly days: string;
  };
  readonly now: Date;
}): string {
  const { accounts, csrf, entered, now } = page;
  const rows = accounts.map(
    (one) => html`<li><div class="what"><h3>${one.name}</h3>
!${facts([
      ["Routes", html`${one.routeIds.join(", ")}`],
      ["Owner", html`${one.ownerId ?? "none"}`],
      ["Created", timeInWords(one.createdAt, now)],
      ["Expires", timeInWords(one.expiresAt, now)],
    ])}</div>
!${buttonForm({ action: "/admin/service-accounts/revoke", csrf, word: "Revoke", label: one.name, fields: { name: one.name } })}</li>`,
  );
  return html`<p class="muted">Programs with long-lived tokens of their own. A policy must allow them: <code>user: {is: service-account/NAME}</code>.</p>
<h2 class="hidden">Service accounts</h2>
!${accounts.length === 0 ? '<p class="empty">There is no service account.</p>' : html`<ul class="rows flat">!${rows.join("\n")}</ul>`}
!${pager(page)}
<h2>New service account</h2>
<form method="post" action="/admin/service-accounts">!${csrfField(csrf)}
<div class="fields">
<div><label for="name">Name</label><input type="text" id="name" name="name" value="${entered.name}" required maxlength="64"></div>
<div><label for="routes">Routes</label><p class="hint" id="routes-hint">Ids, with blanks between them. It gets one token for each.</p><input type="text" id="routes" name="routes" value="${entered.routes}" required aria-describedby="routes-hint"></div>
<div><label for="owner">Owner</label><p class="hint" id="owner-hint">PROVIDER/SUBJECT of the person who may let it use their connections. Optional.</p><input type="text" id="owner" name="owner" value="${entered.owner}" aria-describedby="owner-hint"></div>
<div><label for="days">Lifetime in days</label><input type="number" id="days" name="days" value="${entered.days}" min="1" max="3650" required></div>
</div>
<p class="actions"><button class="primary" type="submit">Create</button></p>
</form>`;
}

/** Shown once, as the answer to the form. */
export function accountTokensContent(page: {
  readonly userId: string;
  readonly expiresAt: Date;
  readonly tokens: readonly { readonly routeId: string; readonly token: string }[];
  readonly back: string;
}): string {
  const rows = page.tokens.map(
    ({ routeId, token }) => html`<div><dt>${routeId}</dt><dd class="mono">${token}</dd></div>`,
  );
  return html`<p class="note warn">Copy them now: they are not stored, and not shown again.</p>
<dl>!${rows.join("")}</dl>
<p>A policy must allow <code>${page.userId}</code>. The tokens expire on ${page.expiresAt.toISOString().slice(0, 10)}.</p>
<p class="actions"><a class="button" href="${page.back}">Service accounts</a></p>`;
}
