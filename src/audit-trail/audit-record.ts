import { setTimeout as delay } from "node:timers/promises";
import type { SigningKeyRing } from "../external-tokens/signing-keys.ts";
import { dayOf } from "../store/audit-partitions.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { checkpointVerifier, type Floor } from "./chain.ts";
import { type Chain, createChain, lateMs } from "./chain-events.ts";
import { type AuditDestination, sendEvents } from "./send-events.ts";
import { findUnchained } from "./verify-trail.ts";

/** Events are chained within twice this, ms. */
const roundEveryMs = 2_000;
/** How soon another replica chains events after one has died, ms. */
const leaseMs = 10_000;
/** How often the others try to take over, ms. */
const takeEveryMs = 3_000;
/** Between two attempts to send events, ms. */
const longestBackoffMs = 60_000;
const maintainEveryMs = 10 * 60_000;
/** A checkpoint is logged this often, as an anchor outside of the database, ms. */
const logEveryMs = 60 * 60_000;
const dayMs = 86_400_000;
/** Events that one search for unchained ones looks at. */
const mostSearched = 1_000_000;

interface AuditRecordDeps {
  readonly store: Pick<Store, "auditTrail" | "auditEvents" | "backgroundWork">;
  readonly keys: Pick<SigningKeyRing, "signer" | "jwks">;
  readonly logger: Logger;
  readonly metrics: Pick<
    Metrics,
    | "auditChainRounds"
    | "auditChained"
    | "auditChainDelay"
    | "auditChainProblems"
    | "auditUnchained"
    | "auditExported"
    | "auditExports"
  >;
  readonly retentionDays: number;
  /** Where events are sent; absent: nowhere. */
  readonly destination?: AuditDestination | undefined;
  readonly fetch: typeof globalThis.fetch;
  /** The gateway's, which is the source of its events. */
  readonly issuer: string;
}

/**
 * Keeps the audit trail a record: one replica at a time chains new events and signs the chain, creates partitions ahead and removes
 * expired events.
 * @returns stops, and leaves it to the other replicas
 */
export function keepAuditRecord(deps: AuditRecordDeps): { close(): Promise<void> } {
  const stopping = new AbortController();
  const { destination } = deps;
  const kept = Promise.all([
    keepTrying(deps, "audit_chain", stopping.signal, (stop) => chainEvents(deps, stop)),
    // Beside it: a slow receiver must not delay the chain.
    ...(destination
      ? [keepTrying(deps, "audit_export", stopping.signal, (stop) => exportEvents(deps, destination, stop))]
      : []),
  ]);
  return {
    async close() {
      stopping.abort();
      await kept;
    },
  };
}

/** Does `work` while this replica has its lease. */
async function keepTrying(
  { store, logger }: Pick<AuditRecordDeps, "store" | "logger">,
  name: string,
  stop: AbortSignal,
  work: (stop: AbortSignal) => Promise<void>,
): Promise<void> {
  while (!stop.aborted) {
    await store.backgroundWork
      .run(name, 0, (lost) => work(AbortSignal.any([stop, lost])), { leaseMs })
      .catch((error: Error) => logger.debug({ reason: error.message }, "cannot take over the audit trail"));
    await pause(takeEveryMs * (0.75 + Math.random() / 2), stop);
  }
}

/** What the replica that sends events does, until it stops or another one takes over. Backs off while the receiver fails. */
async function exportEvents(
  deps: AuditRecordDeps,
  destination: AuditDestination,
  stop: AbortSignal,
): Promise<void> {
  const { store, fetch, issuer, logger, metrics } = deps;
  const onSent = (events: number) => metrics.auditExported.inc(events);
  for (let failures = 0; !stop.aborted; ) {
    try {
      await sendEvents({ trail: store.auditTrail, fetch, issuer, onSent }, destination, stop);
      metrics.auditExports.inc({ outcome: "completed" });
      failures = 0;
    } catch (error) {
      metrics.auditExports.inc({ outcome: "failed" });
      // One line per outage.
      if (failures++ === 0)
        logger.warn(
          { reason: error instanceof Error ? error.message : "unknown" },
          "audit events were not sent; it is tried again",
        );
    }
    await pause(Math.min(roundEveryMs * 2 ** failures, longestBackoffMs), stop);
  }
}

/** What the replica that chains events does, until it stops or another one takes over. */
async function chainEvents(deps: AuditRecordDeps, stop: AbortSignal): Promise<void> {
  const { store, keys, logger, metrics } = deps;
  const chain = createChain({
    trail: store.auditTrail,
    signer: () => keys.signer("audit"),
    verify: (jws) => checkpointVerifier(keys.jwks("audit"))(jws),
    onProblem(problem, batch) {
      metrics.auditChainProblems.inc({ problem });
      logger.error(
        { problem, batch },
        "the stored audit chain is not as this gateway wrote it; run audit verify",
      );
    },
  });
  const maintenance = every(maintainEveryMs, () => maintain(deps, chain));
  const anchor = every(logEveryMs, async () => {
    const last = await store.auditTrail.latest();
    if (last) logger.info({ batch: last.number, checkpoint: last.checkpoint }, "audit checkpoint");
  });
  let failing = false;
  try {
    while (!stop.aborted) {
      try {
        const { chained, oldestMs } = await chain.round();
        metrics.auditChainRounds.inc({ outcome: "completed" });
        metrics.auditChained.inc(chained);
        metrics.auditChainDelay.set(chained === 0 ? 0 : oldestMs / 1_000);
        failing = false;
        await maintenance();
        await anchor();
      } catch (error) {
        metrics.auditChainRounds.inc({ outcome: "failed" });
        // One line per outage.
        if (!failing)
          logger.warn({ err: error }, "audit events are not chained at present; it is tried again");
        failing = true;
      }
      await pause(roundEveryMs, stop);
    }
  } finally {
    metrics.auditChainDelay.set(0);
    metrics.auditUnchained.set(0);
  }
}

/** Creates partitions, removes expired events, and looks for events that were never chained. */
async function maintain(deps: AuditRecordDeps, chain: Pick<Chain, "floor" | "raiseFloor">): Promise<void> {
  const { store, logger, metrics, retentionDays } = deps;
  const { auditTrail: trail } = store;
  const now = await trail.now();
  await trail.partitions.createAhead(now, retentionDays);
  const removed = await removeExpiredEvents(trail, chain, new Date(now.getTime() - retentionDays * dayMs));
  if (removed) logger.info(removed, "expired audit events were removed");
  const last = await trail.latest();
  const since =
    last &&
    (await checkpointVerifier(deps.keys.jwks("audit"))(last.checkpoint).catch(() => undefined))?.since;
  const [first] = await store.auditEvents({ since: new Date(now.getTime() - dayMs), limit: 1 });
  if (!first) return metrics.auditUnchained.set(0);
  const floor = await chain.floor();
  const { added } = await findUnchained(trail, {
    now,
    since,
    floor,
    after: first.id - 1,
    most: mostSearched,
  });
  metrics.auditUnchained.set(added.length);
  if (added.length > 0)
    logger.error(
      { count: added.length, since: new Date(now.getTime() - lateMs) },
      "audit events of the last day are not in the chain: they were inserted later, or committed too late; run audit verify",
    );
}

/**
 * Removes events and batches from before the day of `limit`, after a signed checkpoint states that they have expired: without it, their
 * absence counts as tampering.
 * @returns undefined if nothing has expired
 */
export async function removeExpiredEvents(
  trail: Store["auditTrail"],
  chain: Pick<Chain, "floor" | "raiseFloor">,
  limit: Date,
): Promise<{ rows: number; partitions: number; batches: number } | undefined> {
  const cut = dayOf(limit);
  if (!(await trail.partitions.hasExpired(cut))) return undefined;
  let floor: Floor | undefined = await chain.floor();
  if (floor === undefined || floor.before < cut) floor = await chain.raiseFloor(cut);
  const { rows, partitions } = await trail.partitions.removeExpired(cut);
  return { rows, partitions, batches: await trail.removeBatches(floor.batch) };
}

/** Runs `work` when it is called, but only every so often. */
function every(ms: number, work: () => Promise<void>): () => Promise<void> {
  let next = 0;
  return async () => {
    if (performance.now() < next) return;
    next = performance.now() + ms;
    await work();
  };
}

const pause = (ms: number, stop: AbortSignal) =>
  delay(ms, undefined, { signal: stop, ref: false }).catch(() => {});
