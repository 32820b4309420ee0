import { html } from "ghtml";
import { layout } from "../layout.ts";
import { styleOf } from "../stylesheet.ts";

/** Added to the stylesheet of all pages: navigation, forms and lists of facts. */
export const adminStyle = styleOf(`
.tabs{display:flex;flex-wrap:wrap;gap:.25rem .35rem;margin:1rem 0 1.5rem;padding-bottom:.9rem;border-bottom:1px solid var(--line)}
.tabs a{padding:.35rem .8rem;border-radius:.7rem;text-decoration:none;font-weight:600;color:var(--text)}
.tabs a[aria-current]{background:var(--soft);color:var(--accent)}
.who form{display:inline}
.who button{min-height:1.9rem;padding:.15rem .7rem;font-size:.85rem}
.fields{display:grid;gap:1rem;margin-top:1rem}
.fields .hint{margin:.15rem 0 .35rem;color:var(--muted);font-size:.9rem;font-weight:400}
input[type=number],input[type=search],select,textarea{width:100%;min-height:2.85rem;padding:.6rem .8rem;border:1px solid var(--muted);border-radius:.7rem;background:var(--page);color:var(--text);font:inherit}
textarea{min-height:16rem;font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.88rem}
.check{display:flex;gap:.6rem;align-items:center;font-weight:400}
.check input{flex:none;margin:0}
.filter{display:grid;grid-template-columns:2fr 1fr 1fr auto;gap:.75rem;align-items:end;margin:1rem 0}
.actions form button{width:100%}
.pager{display:flex;gap:.75rem;justify-content:space-between;margin-top:1rem}
.rows.flat>li{grid-template-columns:1fr auto}
pre{overflow-x:auto;padding:.9rem;border:1px solid var(--line);border-radius:.7rem;background:var(--page);font-size:.82rem}
details.danger{margin-top:1.5rem;padding:.7rem .95rem;border:1px solid var(--line);border-radius:.7rem}
.code{font-size:1.6rem;letter-spacing:.06em;font-weight:650;text-align:center}
@media(max-width:34rem){.filter{grid-template-columns:1fr}.rows.flat>li{grid-template-columns:1fr}}
`);

/** The sections of the admin page, in the order of its navigation. */
export const sections = [
  ["overview", "Overview", "/admin/"],
  ["routes", "Routes", "/admin/routes"],
  ["connections", "Connections", "/admin/connections"],
  ["grants", "Grants", "/admin/grants"],
  ["service-accounts", "Service accounts", "/admin/service-accounts"],
  ["keys", "Keys", "/admin/keys"],
] as const;
export type Section = (typeof sections)[number][0];

/** What every page of a signed-in person has. */
export interface AdminFrame {
  readonly section: Section;
  /** `user:PROVIDER/SUBJECT`, and how people know them. */
  readonly person: string;
  readonly role: "admin" | "viewer";
  readonly csrf: string;
  readonly notice?: { readonly kind: "done" | "problem"; readonly text: string };
}

/** A page of the admin page; `content` is HTML below the heading. */
export function adminPage(frame: AdminFrame, page: { title: string; content: string }): string {
  const visible = sections.filter(([section]) => frame.role === "admin" || viewerSections.includes(section));
  const links = visible.map(
    ([section, label, href]) =>
      html`<a href="${href}"!${section === frame.section ? ' aria-current="page"' : ""}>${label}</a>`,
  );
  const notice = frame.notice
    ? html`<p class="note ${frame.notice.kind === "done" ? "good" : "warn"}" role="status">${frame.notice.text}</p>`
    : "";
  return layout({
    title: `${page.title} – MCP gateway administration`,
    wide: true,
    style: adminStyle.css,
    content: html`<div class="top"><h1>${page.title}</h1><div class="who"><span>${frame.person}</span> <span class="tag plain">${frame.role === "admin" ? "Administrator" : "Viewer"}</span> <form method="post" action="/admin/sign-out">!${csrfField(frame.csrf)}<button type="submit">Sign out</button></form></div></div>
<nav class="tabs" aria-label="Administration">!${links.join("")}</nav>
!${notice}
!${page.content}`,
  });
}

/** What viewers may read: nothing about people, and no keys. */
const viewerSections: readonly Section[] = ["overview", "routes"];

/** The hidden field that binds a form to the session. */
export function csrfField(csrf: string): string {
  return html`<input type="hidden" name="csrf" value="${csrf}">`;
}

/** A form with hidden fields and one button. `label` is read to screen readers after the word on the button. */
export function buttonForm(form: {
  readonly action: string;
  readonly csrf: string;
  readonly fields?: Readonly<Record<string, string>>;
  readonly word: string;
  readonly label?: string;
  readonly kind?: "primary";
}): string {
  const fields = Object.entries(form.fields ?? {}).map(
    ([name, value]) => html`<input type="hidden" name="${name}" value="${value}">`,
  );
  const hidden = form.label ? html`<span class="hidden"> ${form.label}</span>` : "";
  return html`<form method="post" action="${form.action}">!${csrfField(form.csrf)}!${fields.join("")}<button class="${form.kind ?? ""}" type="submit">${form.word}!${hidden}</button></form>`;
}

/** Values are HTML. */
export function facts(pairs: readonly (readonly [term: string, value: string])[]): string {
  return html`<dl class="facts">!${pairs.map(([term, value]) => html`<div><dt>${term}</dt><dd>!${value}</dd></div>`).join("")}</dl>`;
}

/** Links to the first and to the next page of a list. */
export function pager(links: { readonly first?: string; readonly next?: string }): string {
  if (links.first === undefined && links.next === undefined) return "";
  const link = (href: string | undefined, word: string) =>
    href === undefined ? "<span></span>" : html`<a class="button" href="${href}">${word}</a>`;
  return html`<nav class="pager" aria-label="Pages">!${link(links.first, "First page")}!${link(links.next, "Next page")}</nav>`;
}
