import { html } from "ghtml";
import type { Route } from "../model/route.ts";
import { foreignServer } from "./confirm-connection-page.ts";
import { clientOrigin, icon, layout, scopeInWords } from "./layout.ts";

/** What users have to know before they let an MCP client act for them. */
export interface ConsentPage {
  readonly client: {
    readonly name?: string;
    /** `document`: its metadata is published at the host of `id`; `registered`: it chose its name; `known`: pre-registered. */
    readonly source: "document" | "registered" | "known";
    readonly id: string;
  };
  /** Where the response goes. */
  readonly redirect: { readonly kind: "web" | "loopback" | "app"; readonly target: string };
  readonly route: Pick<Route, "name" | "description" | "resource" | "logoUrl">;
  readonly person: string;
  readonly scopes: readonly string[];
  /** The upstream whose own consent follows, if the route requires it. */
  readonly upstream?: ConsentUpstream;
  /** For an aggregated route: the members that the user may use. */
  readonly members?: readonly ConsentMember[];
  readonly action: string;
  readonly csrf: string;
  readonly switchAccount: string;
  /** The portal, where the access can be revoked. */
  readonly connections: string;
}

/** An upstream that asks for the user's consent. */
export interface ConsentUpstream {
  /** Host of its authorization server. */
  readonly server: string;
  /** Whether that belongs to another site. */
  readonly foreign: boolean;
  readonly scopes: readonly string[];
}

/** A member of an aggregated route, and what using it takes. */
export interface ConsentMember extends Pick<Route, "name" | "description" | "resource" | "logoUrl"> {
  /** Names it in the form. */
  readonly key: string;
  /** The user's connection to it. */
  readonly state: "connected" | "not_needed" | "missing" | "unavailable";
  readonly upstream?: ConsentUpstream;
}

/**
 * One form, two buttons: `decision=allow` and `decision=deny`. For an aggregated route, also a checkbox `member` for each member, and
 * `shown` with the members that the page lists.
 */
export function consentPage(page: ConsentPage): string {
  const { client, redirect, route } = page;
  const name = client.name ?? "An unnamed application";
  const description = route.description ? html`<p class="muted">${route.description}</p>` : "";
  const next = page.upstream
    ? html`<p>Next, <strong>${page.upstream.server}</strong> asks whether this gateway may use your account there. The application never sees that password or token.</p>
!${page.upstream.foreign ? foreignServer(route.name, page.upstream.server) : ""}
!${page.upstream.scopes.length > 0 ? html`<p class="muted">${route.name} requests there: ${page.upstream.scopes.join(", ")}</p>` : ""}`
    : "";
  return layout({
    title: `Allow access to ${route.name}?`,
    content: html`<div class="head">!${icon(route.name, route.logoUrl)}<h1>Allow <em><bdi>${name}</bdi></em> to use ${route.name}?</h1></div>
!${description}
<dl>
<div><dt>Application</dt><dd><bdi>${name}</bdi><br>!${clientOrigin(client)}</dd></div>
<div><dt>Redirects to</dt><dd><strong>${redirect.target}</strong></dd></div>
<div><dt>Server</dt><dd><span class="mono">${route.resource}</span></dd></div>
<div><dt>Signed in as</dt><dd>${page.person} <a class="nowrap" href="${page.switchAccount}">Not you?</a></dd></div>
</dl>
!${warning(client, redirect)}
<h2>It will be able to</h2>
<ul class="plain">!${page.scopes.map((scope) => html`<li>${scopeInWords(scope)}</li>`).join("")}</ul>
<p class="muted">It keeps this access, even while you are away, until you revoke it under <a href="${page.connections}">your connections</a>.</p>
!${next}
<form method="post" action="${page.action}">
<input type="hidden" name="csrf" value="${page.csrf}">
!${page.members ? memberList(page.members) : ""}
<p class="actions"><button type="submit" name="decision" value="deny">Deny</button><button class="primary" type="submit" name="decision" value="allow">Allow</button></p>
</form>`,
  });
}

function memberList(members: readonly ConsentMember[]): string {
  const shown = html`<input type="hidden" name="shown" value="${members.map(({ key }) => key).join(" ")}">`;
  if (members.length === 0)
    return html`!${shown}<h2>Servers behind it</h2>
<p class="empty">There is no server behind it that you may use yet.</p>`;
  const next = members.some(({ state }) => state === "missing")
    ? "The servers that are not connected ask you next, one at a time; you can skip each of them."
    : "";
  return html`!${shown}<h2 id="members">Servers behind it</h2>
<p class="muted">Untick those that the application should not use. It cannot use a server that is added later before you have seen it. !${next}</p>
<ul class="rows pick" aria-labelledby="members">!${members.map(memberRow).join("\n")}</ul>`;
}

function memberRow({ key, name, description, resource, logoUrl, state, upstream }: ConsentMember): string {
  const [tag, word] = memberTags[state];
  const scopes = upstream && upstream.scopes.length > 0 ? html`: ${upstream.scopes.join(", ")}` : "";
  const asks = upstream
    ? html`<p class="muted">Asks for your account at <strong>${upstream.server}</strong>!${scopes}</p>`
    : "";
  return html`<li>
<input type="checkbox" id="member-${key}" name="member" value="${key}" checked>
!${icon(name, logoUrl)}
<div class="what"><h3><label for="member-${key}">${name}</label> <span class="tag ${tag}">${word}</span></h3>
!${description ? html`<p>${description}</p>` : ""}
<p class="mono muted">${resource}</p>
!${asks}!${upstream?.foreign ? foreignServer(name, upstream.server) : ""}</div>
</li>`;
}

const memberTags = {
  connected: ["good", "Connected"],
  not_needed: ["plain", "Needs no account"],
  missing: ["warn", "Not connected"],
  unavailable: ["warn", "Not available now"],
} as const;

/** A warning about what only the user can judge. */
function warning(client: ConsentPage["client"], redirect: ConsentPage["redirect"]): string {
  const where = { web: "", loopback: "a program on this computer", app: "an app on this device" }[
    redirect.kind
  ];
  const warnings = [
    ...(client.source === "registered" ? ["The application chose its name; nobody has verified it."] : []),
    ...(where ? [`This page redirects to ${where}.`] : []),
  ];
  if (warnings.length === 0) return "";
  return html`<p class="note warn">${warnings.join(" ")} Continue only if you have just started to connect it.</p>`;
}

/**
 * Asks which MCP server an application wants to use, if the application does not say (RFC 8707). It lists no servers: the user has not
 * signed in yet, and has just entered the address in the application.
 */
export function whichServerPage(page: {
  /** Gets the answer as the parameter `server`. */
  action: string;
  /** Sent along with the answer. */
  parameters: Iterable<readonly [name: string, value: string]>;
  /** URL of the portal. */
  connections: string;
  /** Whether the entered address is not an MCP server's. */
  isUnknown: boolean;
}): string {
  const hidden = Array.from(
    page.parameters,
    ([name, value]) => html`<input type="hidden" name="${name}" value="${value}">`,
  ).join("");
  const unknown = html`<p role="alert"><strong>This gateway has no MCP server at that address.</strong> Check it, and enter it exactly as in the application.</p>`;
  return layout({
    title: "Which MCP server?",
    content: html`<h1>Which MCP server?</h1>
<p>An application wants to use an MCP server of this gateway, but does not say which one. Enter the address of the MCP server that you have configured in the application.</p>
!${page.isUnknown ? unknown : ""}
<form method="get" action="${page.action}">!${hidden}
<p><label for="server">Address of the MCP server</label></p>
<p><input id="server" name="server" type="text" inputmode="url" autocomplete="url" placeholder="https://mcp.example.com" required></p>
<p class="actions"><button class="primary" type="submit">Continue</button></p>
</form>
<p class="muted"><a href="${page.connections}">Your connections</a> lists the servers you may use. If you have not just connected an application, close this page.</p>`,
  });
}
