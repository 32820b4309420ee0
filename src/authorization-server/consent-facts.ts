import type Provider from "oidc-provider";
import type { Config } from "../config/config.ts";
import { aggregateOf, consentAuth, type Route } from "../model/route.ts";
import type { Subject } from "../model/subject.ts";
import type { ConsentMember, ConsentPage, ConsentUpstream } from "../pages/consent-page.ts";
import type { BrowserSession } from "../sign-in/sign-in.ts";
import type { ConsentNotice } from "../upstream-oauth/upstream-oauth.ts";
import type { AuthorizationServerDeps } from "./authorization-server.ts";
import { clientSource, isLoopbackRedirect } from "./client-rules.ts";
import { memberName, memberStates, offeredMembers } from "./member-consent.ts";

/** The facts that the consent page shows about a request. */
export function consentFacts(known: {
  config: Config;
  client: NonNullable<Awaited<ReturnType<Provider["Client"]["find"]>>>;
  interaction: {
    readonly params: Record<string, unknown>;
    readonly prompt: { readonly details: Readonly<Record<string, unknown>> };
  };
  person: BrowserSession;
  route: Route;
  /** The state of the connection. */
  state: string;
  /** Where the upstream's consent would lead, if known. */
  notice?: ConsentNotice;
}): Omit<ConsentPage, "members" | "action" | "csrf" | "switchAccount" | "connections"> {
  const { config, client, interaction, person, route, state, notice } = known;
  return {
    client: { name: client.clientName, id: client.clientId, source: clientSource(config, client.clientId) },
    redirect: redirectTarget(String(interaction.params.redirect_uri)),
    route,
    person: person.email ?? person.name ?? person.userId,
    scopes: scopesOfStep(interaction),
    upstream: state === "missing" ? upstreamFacts(route, notice) : undefined,
  };
}

/** What the consent page says about each member of an aggregated route; undefined for other routes. */
export async function describeMembers(
  deps: Pick<AuthorizationServerDeps, "routes" | "mayReach" | "upstreamTokens">,
  person: Subject,
  route: Route,
  noticesOf: (person: Subject, members: readonly Route[]) => Promise<readonly (ConsentNotice | undefined)[]>,
): Promise<readonly ConsentMember[] | undefined> {
  if (aggregateOf(route) === undefined) return undefined;
  const states = await memberStates(deps, person.userId, offeredMembers(deps, person, route));
  const missing = states.flatMap(({ route: member, state }) => (state === "missing" ? [member] : []));
  const notices = await noticesOf(person, missing);
  return states.map(({ route: member, state }) => {
    const { name, description, resource, logoUrl } = member;
    return {
      ...{ key: memberName(member), name, description, resource, logoUrl, state },
      ...(state === "missing" && { upstream: upstreamFacts(member, notices[missing.indexOf(member)]) }),
    };
  });
}

/** The scopes to grant, as the step's check determined them; the client may have requested others. */
function scopesOfStep({ prompt }: { prompt: { details: Readonly<Record<string, unknown>> } }): string[] {
  const { scopes } = prompt.details;
  return Array.isArray(scopes) ? scopes.filter((scope) => typeof scope === "string") : [];
}

function redirectTarget(redirectUri: string): ConsentPage["redirect"] {
  const url = new URL(redirectUri);
  if (url.protocol === "https:") return { kind: "web", target: url.host };
  if (isLoopbackRedirect(url)) return { kind: "loopback", target: `this computer (${url.host})` };
  return { kind: "app", target: `the app that opens ${url.protocol}` };
}

/** Where the upstream's consent leads; without a notice, as far as the configuration says. */
function upstreamFacts(route: Route, notice: ConsentNotice | undefined): ConsentUpstream {
  const { server = upstreamName(route), foreign = false, scopes = [] } = notice ?? {};
  return { server, foreign, scopes };
}

function upstreamName(route: Route): string {
  const auth = consentAuth(route);
  const asked = auth?.endpoint?.authUrl;
  return new URL(asked ?? route.upstream).host;
}
