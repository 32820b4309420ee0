import { askedAt, endpointUrl } from "../config/paths.ts";
import { consentAuth, type Route } from "../model/route.ts";
import { createPersistence } from "../store/save-token.ts";
import type { UpstreamToken } from "../store/upstream-tokens.ts";
import { boundedCache } from "../util/bounded-cache.ts";
import { SingleFlight } from "../util/single-flight.ts";
import { AuthorizationCallbacks } from "./authorization-callback.ts";
import { AuthorizationRequests } from "./authorization-request.ts";
import { createAuthMethods } from "./client-authentication.ts";
import { clientMetadataDocument } from "./client-metadata.ts";
import { createClients } from "./clients.ts";
import { Discovery } from "./discovery.ts";
import { doctor } from "./doctor.ts";
import { requireCredential, UpstreamOAuthError, withoutCredential } from "./errors.ts";
import type { FailureCode } from "./failures.ts";
import { createMetadataCache, failureMs } from "./metadata-cache.ts";
import { obtainNonInteractive } from "./non-interactive/non-interactive.ts";
import { prepareRoute } from "./prepare-route.ts";
import { codeOfUnknown } from "./probe.ts";
import { refresh } from "./refresh.ts";
import { revoke } from "./revoke.ts";
import { createRouteFetch } from "./route-fetch.ts";
import { probeWithToken } from "./token-probe.ts";
import type { PendingConsent, UpstreamOAuth, UpstreamOAuthDeps } from "./upstream-oauth.ts";

/** How long the result of a probe is cached, ms. */
const neededTtlMs = 600_000;

/** The same for an inconclusive probe, ms. Until then, calls go to the upstream without a token. */
const unknownTtlMs = 30_000;

/** Whether a token's client needs a secret that is missing. A missing header must not keep a token from being revoked. */
function usesMissingSecret({ mcp, clientSecretMissing }: Route, { clientId }: UpstreamToken): boolean {
  if (!clientSecretMissing || mcp.kind !== "server") return false;
  return "clientId" in mcp.auth && mcp.auth.clientId === clientId;
}

/** The OAuth client of upstreams' authorization servers: wires the parts of this module and logs each failure once. */
export function createUpstreamOAuth(deps: UpstreamOAuthDeps): UpstreamOAuth {
  const { logger, metrics, store } = deps;
  const routeFetch = createRouteFetch(deps);
  const entries = deps.routes().config.limits.metadataCacheEntries;
  const cache = createMetadataCache({
    entries,
    onLookup: (result) => metrics.cacheLookups.inc({ cache: "discovery", result }),
    onEvict: () => metrics.cacheEvictions.inc({ cache: "discovery" }),
  });
  const discovery = new Discovery({ routes: deps.routes, routeFetch, cache, logger });
  const authMethods = createAuthMethods();
  const persistence = createPersistence(
    logger,
    "the token of a completed authorization could not be stored yet",
  );
  const clients = createClients({ ...deps, routeFetch, authMethods });
  const parts = { ...deps, routeFetch, discovery, clients, authMethods, persistence };
  const requests = new AuthorizationRequests(parts);
  const callbacks = new AuthorizationCallbacks(parts, requests);
  const needs = boundedCache<string, { readonly needed: boolean; readonly fault?: FailureCode }>(10_000, {
    ttl: neededTtlMs,
  });
  const askOnce = new SingleFlight<boolean>({ failureMs, failures: 10_000 });
  const needKey = (route: Route) => `${route.id} ${endpointUrl(route)}`;

  /** Logs and counts a failure, once. */
  function failed(step: string, thrown: unknown, about: object): UpstreamOAuthError {
    const error = UpstreamOAuthError.from(thrown, step);
    const { code, detail, error: upstreamError } = error;
    logger.warn({ step, reason: code, upstreamError, detail, ...about }, error.message);
    metrics.upstreamOAuth.inc({ step, outcome: code });
    return error;
  }
  /** Another replica may have begun it. One that an earlier version has begun has no time. */
  const ended = (pending: PendingConsent | undefined, outcome: "granted" | "denied" | "failed") => {
    metrics.consents.inc({ kind: "upstream", outcome });
    if (pending?.begunAt !== undefined)
      metrics.authorizationDuration.observe(
        { kind: "upstream", outcome },
        Math.max(0, Date.now() - pending.begunAt) / 1000,
      );
  };
  const succeeded = (step: string) => metrics.upstreamOAuth.inc({ step, outcome: "ok" });

  return {
    async begin(request) {
      const { userId, route } = request;
      try {
        requireCredential(route);
        const begun = await requests.begin(request);
        if ("notice" in begun) {
          const failure = new UpstreamOAuthError("notice_needed", "the user must confirm first");
          return { ...failure.toFailure(), notice: begun.notice };
        }
        succeeded("begin");
        metrics.consents.inc({ kind: "upstream", outcome: "started" });
        return { ok: true, ...begun };
      } catch (thrown) {
        return failed("begin", thrown, { userId, route: route.id }).toFailure();
      }
    },

    async notice(userId, route) {
      try {
        return await requests.notice(userId, route);
      } catch (thrown) {
        failed("notice", thrown, { userId, route: route.id });
        return undefined;
      }
    },

    async finish(callback) {
      const { userId } = callback;
      let pending: PendingConsent | undefined;
      try {
        pending = await callbacks.claim(callback);
        const asked = deps.routes().byId(pending.routeId);
        if (asked) requireCredential(asked);
        const again = await callbacks.redeem(pending, callback.params);
        const { routeId, returnTo, popup } = pending;
        if (again) {
          const { because, location, state } = again;
          logger.info(
            {
              issuer: pending.issuer,
              userId,
              route: routeId,
              reason: because.code,
              upstreamError: because.error,
            },
            "the client registration at an authorization server is gone or lacks scopes: redirecting the user again with a new one",
          );
          metrics.upstreamOAuth.inc({ step: "finish", outcome: because.code });
          return { ok: true, routeId, returnTo, popup, again: { location, state } };
        }
        const connected = deps.routes().byId(routeId);
        if (connected) needs.set(needKey(askedAt(connected, pending.askedPath)), { needed: true });
        succeeded("finish");
        ended(pending, "granted");
        return { ok: true, routeId, returnTo, popup };
      } catch (thrown) {
        const error = failed("finish", thrown, { userId, route: pending?.routeId });
        ended(pending, error.code === "consent_denied" ? "denied" : "failed");
        if (pending && error.code === "consent_denied") {
          await store.audit({
            action: "consent.denied",
            userId,
            routeId: pending.routeId,
            upstream: pending.upstream,
            issuer: pending.issuer,
            reason: error.error,
          });
        }
        const { routeId, returnTo, popup } = pending ?? {};
        return { ...error.toFailure(), routeId, returnTo, popup };
      }
    },

    async refresh(token, route) {
      if (route.missingSecrets) return withoutCredential;
      const { error, ...outcome } = await refresh(parts, token, route);
      if (error) failed("refresh", error, { userId: token.userId, route: route.id });
      else if (outcome.kind === "refreshed") succeeded("refresh");
      // Not an error of the server, which may not have been called.
      else metrics.upstreamOAuth.inc({ step: "refresh", outcome: outcome.reason });
      return outcome;
    },

    async grant(route, subject) {
      if (route.missingSecrets) return withoutCredential;
      try {
        const token = await obtainNonInteractive(parts, route, subject);
        succeeded("obtain");
        return { kind: "obtained", token };
      } catch (thrown) {
        const error = failed("obtain", thrown, { userId: subject.userId, route: route.id });
        const isFinal = ["token_request_rejected", "sign_in_token_missing"].includes(error.code);
        if (isFinal) return { kind: "rejected", reason: error.word };
        return {
          kind: "unavailable",
          retryAfterSeconds: error.retryAfterSeconds ?? (error.toFailure().retryable ? 5 : 60),
          reason: error.code,
        };
      }
    },

    async revoke(token, route) {
      try {
        if (usesMissingSecret(route, token)) requireCredential(route);
        const revocation = await revoke(parts, token, route);
        if (revocation.revoked) succeeded("revoke");
        return revocation;
      } catch (thrown) {
        const { code } = failed("revoke", thrown, { userId: token.userId, route: route.id });
        return { revoked: false, issuer: token.issuer, reason: code };
      }
    },

    needed(route) {
      const auth = consentAuth(route);
      if (auth === undefined) return false;
      if (auth.endpoint || auth.clientId) return true;
      const key = needKey(route);
      const known = needs.get(key);
      if (known) return known.needed;
      return askOnce.run(key, async () => {
        try {
          const need = await discovery.needed(route);
          if (need.kind === "unknown") {
            const { finding, status } = need;
            logger.warn(
              { route: route.id, upstream: route.upstream, status, finding },
              "the probe does not show whether an upstream needs a token",
            );
            metrics.upstreamOAuth.inc({ step: "discovery", outcome: "unknown" });
            // Envoy turns every redirect into 502. Other responses may be temporary, or specific to this request.
            const code = codeOfUnknown(status);
            const fault = code === "redirect_not_followed" ? code : undefined;
            needs.set(key, { needed: false, fault }, { ttl: unknownTtlMs });
            return false;
          }
          const needed = need.kind === "yes";
          needs.set(key, { needed });
          succeeded("discovery");
          return needed;
        } catch (thrown) {
          throw failed("discovery", thrown, { route: route.id });
        }
      });
    },

    fault: (route) => needs.get(needKey(route))?.fault,

    endpointPath: (route) => discovery.endpointPath(route).catch(() => ""),

    async probe(route, headersFor) {
      try {
        const answer = await probeWithToken(routeFetch, route, headersFor);
        succeeded("probe");
        return answer;
      } catch (thrown) {
        failed("probe", thrown, { route: route.id });
        return undefined;
      }
    },

    noteNeeded(route) {
      needs.set(needKey(route), { needed: true });
    },

    clientMetadataDocument: (host, wanted) => clientMetadataDocument(deps.routes(), host, wanted),
    clientJwks: () => deps.keys.jwks("upstream_client"),

    discover: (route, onStep) =>
      doctor(
        {
          ...parts,
          discovery: new Discovery({ ...parts, cache: createMetadataCache({ entries }) }),
          store,
        },
        route,
        onStep,
      ),

    async prepare(route, table) {
      const prepared = await prepareRoute({ ...parts, entries }, route, table);
      if (!("failed" in prepared)) {
        if ("discovery" in prepared) succeeded("prepare");
        return prepared;
      }
      return failed("prepare", prepared.failed, { route: route.id }).toFailure();
    },

    forget(route) {
      cache.forget(route.id);
      discovery.forget(route);
      clients.retestRegistration(route);
    },
    close: persistence.close,
  };
}
