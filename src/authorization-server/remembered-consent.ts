import type { Grant, KoaContextWithOIDC } from "oidc-provider";
import { routeOfResource } from "../config/resources.ts";
import { aggregateOf } from "../model/route.ts";
import type { AuthorizationServerDeps } from "./authorization-server.ts";
import { isLoopbackRedirect } from "./client-rules.ts";
import { orUnavailable } from "./errors.ts";
import {
  grantedMember,
  hasSeenAll,
  type MemberChoice,
  memberName,
  namedMembers,
  namesIn,
  offeredMembers,
  storedChoice,
} from "./member-consent.ts";
import { browserRequest } from "./normalize-requests.ts";
import { routeOfRequest } from "./resources.ts";

type Deps = Pick<AuthorizationServerDeps, "routes" | "store">;

/** A consent that covers a request. */
interface Consent {
  /** Unix seconds. */
  readonly consentedAt: number;
  /** For an aggregated route. */
  readonly members?: MemberChoice;
}

/**
 * The unsaved grant of an authorization request. It covers the whole request if the user has just consented or a remembered consent
 * covers it; otherwise there is none, and the user is asked for consent.
 */
export async function grantOfRequest(
  ctx: KoaContextWithOIDC,
  deps: Deps & Pick<AuthorizationServerDeps, "signIn" | "mayReach">,
): Promise<Grant | undefined> {
  const { client, session, result, provider, params, resourceServers = {} } = ctx.oidc;
  const userId = session?.accountId;
  if (!client || !userId) return undefined;
  const redirectUri = consentTarget(String(params?.redirect_uri));
  const asked = { userId, clientId: client.clientId, redirectUri };
  const consent: Consent | undefined = result?.consent
    ? { consentedAt: Math.floor(Date.now() / 1000), members: storedChoice(result.members) }
    : await remembered(ctx, deps, asked);
  if (consent === undefined) return undefined;
  const { consentedAt, members } = consent;
  const request = browserRequest.current();
  const route = routeOfRequest(ctx, deps);
  if (request) request.consent = { redirectUri, consentedAt };
  if (request && members && route && aggregateOf(route)) {
    request.consent = { redirectUri, consentedAt, seenMembers: members.seen };
    request.members = namedMembers(deps, route, members.allowed).map(grantedMember);
  }
  const grant = new provider.Grant({ accountId: userId, clientId: client.clientId });
  const oidcScopes = [...ctx.oidc.requestParamOIDCScopes].join(" ");
  if (oidcScopes) grant.addOIDCScope(oidcScopes);
  for (const [resource, server] of Object.entries(resourceServers)) {
    grant.addResourceScope(resource, server.scope);
  }
  return grant;
}

/** Whether the user has allowed the client before, for any route, with this redirect URI. */
export async function hasAllowed(
  asked: { readonly userId: string; readonly clientId: string; readonly redirectUri: string },
  deps: Deps,
): Promise<boolean> {
  return (await consents({ ...asked, redirectUri: consentTarget(asked.redirectUri) }, deps)).length > 0;
}

/**
 * The user's consent to everything that this request asks for, every member of an aggregated route included. Only for an https
 * redirect URI: any local program can listen on a loopback port or claim a scheme, so only the user knows who asks (RFC 8252
 * section 8.6).
 */
async function remembered(
  ctx: KoaContextWithOIDC,
  deps: Parameters<typeof grantOfRequest>[1],
  asked: { readonly userId: string; readonly clientId: string; readonly redirectUri: string },
): Promise<Consent | undefined> {
  if (URL.parse(asked.redirectUri)?.protocol !== "https:") return undefined;
  const servers = Object.values(ctx.oidc.resourceServers ?? {});
  const covering = (await consents(asked, deps)).filter(({ payload }) => {
    const given = scopesByRoute(payload, deps);
    const oidcGiven = scopesOf(isRecord(payload.openid) ? payload.openid.scope : undefined);
    const oidcAsked = [...ctx.oidc.requestParamOIDCScopes];
    return (
      oidcAsked.every((scope) => oidcGiven.has(scope)) &&
      servers.every((server) => {
        const known = given.get(server.audience ?? "");
        return known !== undefined && [...server.scopes].every((scope) => known.has(scope));
      })
    );
  });
  const newest = covering.toSorted((a, b) => a.consentedAt - b.consentedAt).at(-1);
  if (newest === undefined) return undefined;
  const { consentedAt } = newest;
  const route = routeOfRequest(ctx, deps);
  if (!route || aggregateOf(route) === undefined) return { consentedAt };
  const request = browserRequest.current();
  const person = request && (await orUnavailable(deps.signIn.person(request.ctx)));
  const members = await rememberedMembers(newest, deps);
  return person && hasSeenAll(members, offeredMembers(deps, person, route))
    ? { consentedAt, members }
    : undefined;
}

/** What a grant may use now: as its consent page was answered, and as links and the portal have changed it since. */
async function rememberedMembers(
  { grantId, payload }: { readonly grantId: string; readonly payload: Record<string, unknown> },
  { store }: Pick<Deps, "store">,
): Promise<MemberChoice> {
  const members = await orUnavailable(store.grantedMembers.of(grantId));
  const allowed = [...members].map(([id, upstream]) => memberName({ id, upstream }));
  return { allowed, seen: [...namesIn(payload.seenMembers), ...allowed] };
}

/** The grants of a user, client and redirect URI whose consent has not expired, oldest first. Grants of earlier versions have no URI. */
async function consents(
  { userId, clientId, redirectUri }: { userId: string; clientId: string; redirectUri: string },
  deps: Deps,
): Promise<{ grantId: string; payload: Record<string, unknown>; consentedAt: number }[]> {
  const oldest = Date.now() / 1000 - deps.routes().config.authorizationServer.consentTtl;
  const grants = await orUnavailable(deps.store.authorizationServerRecords.grants({ userId, clientId }));
  return grants.flatMap(({ grantId, payload }) => {
    const { consentedAt } = payload;
    if (payload.redirectUri !== redirectUri || typeof consentedAt !== "number") return [];
    return consentedAt >= oldest ? [{ grantId, payload, consentedAt }] : [];
  });
}

/** A redirect URI as stored with a consent: loopback addresses lose their port, which changes at every start. */
function consentTarget(redirectUri: string): string {
  const url = URL.parse(redirectUri);
  if (!url || !isLoopbackRedirect(url)) return redirectUri;
  url.port = "";
  return url.href;
}

/** A grant's scopes by the canonical name of each resource. */
function scopesByRoute(
  payload: Record<string, unknown>,
  deps: Pick<Deps, "routes">,
): Map<string, Set<string>> {
  const result = new Map<string, Set<string>>();
  if (!isRecord(payload.resources)) return result;
  for (const [resource, scope] of Object.entries(payload.resources)) {
    const route = routeOfResource(deps.routes(), resource);
    if (route) result.set(route.resource, scopesOf(scope));
  }
  return result;
}

function scopesOf(scope: unknown): Set<string> {
  return new Set(typeof scope === "string" ? scope.split(" ").filter(Boolean) : []);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
