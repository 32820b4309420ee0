import type Provider from "oidc-provider";
import type { Grant, KoaContextWithOIDC } from "oidc-provider";
import type { Config } from "../config/config.ts";
import { consentAuth, type Route } from "../model/route.ts";
import type { ConsentPage } from "../pages/consent-page.ts";
import type { BrowserSession } from "../sign-in/sign-in.ts";
import type { ConsentNotice } from "../upstream-oauth/upstream-oauth.ts";
import type { AuthorizationServerDeps } from "./authorization-server.ts";
import { clientSource, isLoopbackRedirect } from "./client-rules.ts";
import { orUnavailable } from "./errors.ts";
import { browserRequest } from "./normalize-requests.ts";
import { routeOfResource } from "./resources.ts";

type Deps = Pick<AuthorizationServerDeps, "routes" | "store">;

/**
 * The unsaved grant of an authorization request. It covers the whole request if the user has just consented or a remembered consent
 * covers it; otherwise there is none, and the user is asked for consent.
 */
export async function grantOfRequest(ctx: KoaContextWithOIDC, deps: Deps): Promise<Grant | undefined> {
  const { client, session, result, provider, params, resourceServers = {} } = ctx.oidc;
  const userId = session?.accountId;
  if (!client || !userId) return undefined;
  const redirectUri = consentTarget(String(params?.redirect_uri));
  const asked = { userId, clientId: client.clientId, redirectUri };
  const consentedAt = result?.consent ? Math.floor(Date.now() / 1000) : await remembered(ctx, deps, asked);
  if (consentedAt === undefined) return undefined;
  const request = browserRequest.current();
  if (request) request.consent = { redirectUri, consentedAt };
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
 * When the user consented to everything that this request asks for, Unix seconds. Only for an https redirect URI: any local program
 * can listen on a loopback port or claim a scheme, so only the user knows who asks (RFC 8252 section 8.6).
 */
async function remembered(
  ctx: KoaContextWithOIDC,
  deps: Deps,
  asked: { readonly userId: string; readonly clientId: string; readonly redirectUri: string },
): Promise<number | undefined> {
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
  return covering.length > 0 ? Math.max(...covering.map(({ consentedAt }) => consentedAt)) : undefined;
}

/** The grants of a user, client and redirect URI whose consent has not expired. Grants of earlier versions have no URI. */
async function consents(
  { userId, clientId, redirectUri }: { userId: string; clientId: string; redirectUri: string },
  deps: Deps,
): Promise<{ payload: Record<string, unknown>; consentedAt: number }[]> {
  const oldest = Date.now() / 1000 - deps.routes().config.authorizationServer.consentTtl;
  const grants = await orUnavailable(deps.store.authorizationServerRecords.grants({ userId, clientId }));
  return grants.flatMap(({ payload }) => {
    const { consentedAt } = payload;
    if (payload.redirectUri !== redirectUri || typeof consentedAt !== "number") return [];
    return consentedAt >= oldest ? [{ payload, consentedAt }] : [];
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
}): Omit<ConsentPage, "action" | "csrf" | "switchAccount" | "connections"> {
  const { config, client, interaction, person, route, state, notice } = known;
  return {
    client: { name: client.clientName, id: client.clientId, source: clientSource(config, client.clientId) },
    redirect: redirectTarget(String(interaction.params.redirect_uri)),
    route,
    person: person.email ?? person.name ?? person.userId,
    scopes: scopesOfStep(interaction),
    upstream:
      state === "missing"
        ? {
            scopes: [],
            ...notice,
            server: notice?.server ?? upstreamName(route),
            foreign: notice?.foreign === true,
          }
        : undefined,
  };
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

function upstreamName(route: Route): string {
  const auth = consentAuth(route);
  const asked = auth?.endpoint?.authUrl;
  return new URL(asked ?? route.upstream).host;
}
