import Router from "@koa/router";
import { aggregationOnDemand } from "./aggregation/aggregation-on-demand.ts";
import { createCallOf } from "./aggregation/checked-call.ts";
import { createMemberFetch, memberUrl } from "./aggregation/member-fetch.ts";
import { createAuthorizationServer } from "./authorization-server/create-authorization-server.ts";
import type { CurrentRoutes } from "./config/route-table.ts";
import type { ResolveHost } from "./egress/addresses.ts";
import { createSafeFetch } from "./egress/safe-fetch.ts";
import { createConsentRequired } from "./ext-authz/consent-required.ts";
import { createExternalTokens } from "./external-tokens/create-external-tokens.ts";
import { createAssertions } from "./external-tokens/identity-assertions.ts";
import { createMetadataProofs } from "./external-tokens/metadata-proofs.ts";
import { createSignedCalls } from "./external-tokens/signed-calls.ts";
import { createSigningKeys } from "./external-tokens/signing-keys.ts";
import type { Route } from "./model/route.ts";
import type { Subject } from "./model/subject.ts";
import { createRateLimiter } from "./policy/rate-limiter.ts";
import { createCurrentPolicies } from "./policy/route-policy.ts";
import { createConnectRouter } from "./portal/connect.ts";
import { createConnectionsRouter } from "./portal/connections.ts";
import { createConsentLinks } from "./portal/consent-links.ts";
import { allowMember } from "./portal/member-grants.ts";
import type { PortalDeps } from "./portal/server-states.ts";
import { createServersRouter } from "./portal/servers-api.ts";
import { createSignIn } from "./sign-in/create-sign-in.ts";
import { createGrantedMembers } from "./store/granted-members.ts";
import { createPeople } from "./store/people.ts";
import type { Store } from "./store/store.ts";
import type { Logger } from "./telemetry/logger.ts";
import type { Metrics } from "./telemetry/metrics.ts";
import { createUpstreamOAuth } from "./upstream-oauth/create-upstream-oauth.ts";
import { createUpstreamTokens } from "./upstream-tokens/create-upstream-tokens.ts";
import { Admission } from "./util/admission.ts";
import type { SharedLimits } from "./workers/worker.ts";

/** Dependencies of all components; opened by `serve.ts`. */
export interface Foundation {
  readonly routes: CurrentRoutes;
  /** Calls back after `routes` have changed; default: they do not change. */
  readonly onRoutesChanged?: (listener: () => void) => () => void;
  readonly store: Store;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** Fetches URLs from the routes file. */
  readonly trustedFetch: typeof globalThis.fetch;
  /** Fetches URLs from clients; default: public addresses only. */
  readonly untrustedFetch?: typeof globalThis.fetch;
  /** Resolves the host names of upstreams; default: the system's resolver. */
  readonly resolveHost?: ResolveHost;
  /** What the workers of this replica share; default: it is one process. */
  readonly sharedLimits?: SharedLimits | undefined;
  /** How often tokens that expire soon are refreshed, ms; 0: never; default: see `createUpstreamTokens`. */
  readonly refreshAheadEveryMs?: number;
  /** Unix milliseconds; default: the system clock. */
  readonly now?: () => number;
}

/** All components. */
export type Components = Awaited<ReturnType<typeof compose>>;

/**
 * Builds all components in the order of their dependencies. Nothing listens yet; only the subscriptions to database notifications
 * are active.
 * @throws StoreUnavailable when the signing keys cannot be read or created
 */
export async function compose(foundation: Foundation) {
  const { routes, store, logger, metrics, trustedFetch, now } = foundation;
  const common = { routes, store, logger, metrics };
  const keys = await createSigningKeys({ store, logger, now });
  const metadataProofs = await createMetadataProofs({ store, logger, now });
  const signedCalls = createSignedCalls({ metadataProofs });
  const { cacheEntries: entries, tokenCacheBytes: bytes } = routes().config.limits;
  const people = createPeople({
    store,
    limits: { entries, bytes },
    onEvict: () => metrics.cacheEvictions.inc({ cache: "person" }),
  });
  const admission = new Admission(() => routes().config.check.deadlineMs / 2);
  const grantedMembers = createGrantedMembers({
    store,
    limits: { bytes },
    upstreamOf: (routeId) => routes().byId(routeId)?.upstream,
    onEvict: () => metrics.cacheEvictions.inc({ cache: "granted_member" }),
  });
  const externalTokens = createExternalTokens({
    ...{ ...common, people, keys, fetch: trustedFetch, now, admission },
    grantedMembers: grantedMembers.of,
  });
  const assertions = createAssertions({ keys, routes, metrics, now });
  const policies = createCurrentPolicies(routes);
  const signIn = createSignIn({ ...common, fetch: trustedFetch });
  const upstreamOAuth = createUpstreamOAuth({
    ...common,
    keys,
    refreshSignIn: signIn.refreshTokens,
    resolveHost: foundation.resolveHost,
  });
  const upstreamTokens = createUpstreamTokens({
    ...common,
    upstreamOAuth,
    admission,
    refreshAheadEveryMs: foundation.refreshAheadEveryMs,
  });
  signIn.onPersonRejected((userId) => upstreamTokens.disconnectAll(userId));
  const mayReach = (person: Subject, route: Route) =>
    policies().forRoute(route.id).mayReach(person, Date.now());
  const authorizationServer = createAuthorizationServer({
    ...common,
    keys,
    signIn,
    upstreamTokens,
    upstreamNotice: upstreamOAuth.notice,
    mayReach,
    externalTokens,
    fetch: foundation.untrustedFetch ?? createSafeFetch({ limits: () => routes().config.upstreamOAuth }),
  });
  const members = createMemberFetch({ routes, externalTokens, metadataProofs });
  const portal = createPortal({
    ...{ routes, store, logger, signIn, externalTokens, people, upstreamOAuth, upstreamTokens, mayReach },
    endpointPath: upstreamOAuth.endpointPath,
    describeClient: authorizationServer.describeClient,
  });
  const consentLinks = createConsentLinks({
    ...{ routes, store, logger, metrics, signIn, upstreamOAuth, upstreamTokens, mayReach },
    describeClient: authorizationServer.describeClient,
    onAllowed: (allowed) => allowMember({ routes, store }, allowed),
  });
  portal.use(consentLinks.router.routes());
  const callOf = createCallOf({ routes, signedCalls, people });
  const aggregation = await aggregationOnDemand({
    ...{ routes, logger, metrics, callOf, mayReach, people },
    onRoutesChanged: foundation.onRoutesChanged ?? (() => () => {}),
    notifications: store.notifications,
    sessions: store.aggregateSessions,
    messages: store.replicaMessages,
    memberFetch: members.memberFetch,
    memberUrl: (member) => memberUrl(member, upstreamOAuth),
    grantedMembers: grantedMembers.of,
    createConsentLink: consentLinks.create,
  });
  return {
    ...common,
    admission,
    keys,
    metadataProofs,
    signedCalls,
    people,
    /** The ids of the members that a grant of an aggregated route may use; synchronous if cached. */
    grantedMembers: grantedMembers.of,
    externalTokens,
    callOf,
    memberFetch: members.memberFetch,
    assertions,
    policies,
    limiter: createRateLimiter({ shared: foundation.sharedLimits }),
    signIn,
    sessionFromCookieHeader: signIn.sessionFromCookieHeader,
    upstreamOAuth,
    upstreamTokens,
    mayReach,
    authorizationServer,
    portal,
    createConsentLink: consentLinks.create,
    aggregation,
    consentRequired: createConsentRequired({
      ...common,
      metadataProofs,
      createConsentLink: consentLinks.create,
    }),
    /** Closes the components in reverse order of their dependencies; the store stays open. */
    async close() {
      for (const component of [
        aggregation,
        members,
        authorizationServer,
        upstreamTokens,
        upstreamOAuth,
        externalTokens,
        people,
        grantedMembers,
        signIn,
        keys,
        metadataProofs,
      ])
        await component.close();
    },
  };
}

/** The endpoints for connections, for users and for applications. Paths use `paths.prefix` at startup. */
export function createPortal(deps: PortalDeps): Router {
  const router = new Router();
  for (const part of [createConnectRouter(deps), createServersRouter(deps), createConnectionsRouter(deps)])
    router.use(part.routes());
  return router;
}
