import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import { boundedCache } from "../util/bounded-cache.ts";
import type { Checked } from "./stage.ts";

/** The same refusal of the same caller is written this often at most, ms: a client in a loop must not fill the trail. */
const quietMs = 60_000;

/** Of tokens whose signature was good: what is merely made up is counted, not written, or anybody could fill the trail. */
const signedTokens = new Set(["revoked", "wrong_audience", "expired"]);

/**
 * Writes an audit event for calls that policy refused, and for TEs with a good signature that are refused (F7.3). Nobody waits for it.
 * @returns to be told of every check that let nothing through
 */
export function createRefusalAudit(deps: {
  readonly store: Pick<Store, "audit">;
  readonly logger: Logger;
}): (checked: Checked, requestId: string) => void {
  const written = boundedCache<string, true>(10_000, { ttl: quietMs });
  return ({ decision, reason, route, userId, clientId, grantId, rule }, requestId) => {
    const byPolicy = userId !== undefined && (decision.kind === "reply" || isForbidden(decision));
    if (!byPolicy && !signedTokens.has(reason)) return;
    // Not by grant: a client that asks for one after another would be written as often.
    const key = `${reason} ${route?.id} ${userId} ${clientId}`;
    if (written.has(key)) return;
    written.set(key, true);
    deps.store
      .audit({
        action: byPolicy ? "policy.refused" : "external_token.refused",
        userId,
        clientId,
        grantId,
        routeId: route?.id,
        reason,
        requestId,
        ...(rule === undefined ? {} : { detail: { rule } }),
      })
      .catch((error: Error) =>
        deps.logger.warn(
          { reason: error.message, requestId },
          "a refusal could not be written to the audit trail",
        ),
      );
  };
}

function isForbidden(decision: Checked["decision"]): boolean {
  return decision.kind === "deny" && (decision.status === 403 || decision.status === 429);
}
