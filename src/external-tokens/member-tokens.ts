import { isMember } from "../config/aggregates.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import type { Route } from "../model/route.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { boundedCache } from "../util/bounded-cache.ts";
import type { MemberTokenHolder } from "./external-tokens.ts";
import { mintedTokens } from "./minted-tokens.ts";
import type { SigningKeyRing } from "./signing-keys.ts";

const lifeSeconds = 300;
/** A grant's use of a member is written to the audit trail at most this often, ms; per replica. */
const quietMs = 86_400_000;

/**
 * Mints external tokens for the members of aggregated routes: RFC 9068 tokens for one member that end with the grant of the aggregated
 * route, after five minutes, or when the member leaves the route. They name the route and the caller's address (`via`), for the policy
 * of the member, and nothing else about the person. Cached for half of their life.
 */
export function memberTokens(deps: {
  readonly routes: CurrentRoutes;
  readonly keys: SigningKeyRing;
  readonly store: Pick<Store, "audit">;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** Unix milliseconds. */
  readonly now: () => number;
}) {
  const { routes, now, store, logger } = deps;
  const tokens = mintedTokens("member_token", deps);
  const recorded = boundedCache<string, true>(routes().config.limits.cacheEntries, { ttl: quietMs });

  /** Not awaited: the audit trail must not delay a call. */
  function recordIssued({ caller, route }: MemberTokenHolder, { id: routeId }: Route): void {
    const { userId, clientId, grantId } = caller;
    const name = JSON.stringify([grantId, route.id, routeId]);
    if (recorded.has(name)) return;
    recorded.set(name, true);
    store
      .audit({
        action: "external_token.issued",
        ...{ userId, clientId, grantId, routeId },
        detail: { via: route.id },
      })
      .catch((error: Error) =>
        logger.warn(
          { reason: error.message, userId, route: routeId },
          "cannot write a member's token to the audit trail",
        ),
      );
  }

  return {
    async mint(holder: MemberTokenHolder, member: Route): Promise<string> {
      const { caller, route, sourceIp } = holder;
      const { userId, clientId, grantId } = caller;
      if (!isMember(routes().config, route, member))
        throw new Error(`${member.id} is not a member of ${route.id}`);
      const fresh = () => {
        const issuedAt = Math.floor(now() / 1000);
        return {
          claims: {
            client_id: clientId,
            grant_id: grantId,
            scope: caller.scopes.join(" "),
            refreshable: false,
            via: { route: route.id, ...(sourceIp !== undefined && { source_ip: sourceIp }) },
          },
          subject: userId,
          audience: member.resource,
          issuedAt,
          expiresAt: issuedAt + lifeSeconds,
          until: now() + (lifeSeconds * 1000) / 2,
        };
      };
      const name = JSON.stringify([grantId, userId, clientId, route.id, member.resource, sourceIp]);
      return tokens.get(name, grantId, fresh, () => recordIssued(holder, member));
    },
    forget: tokens.forget,
    clear: tokens.clear,
  };
}
