import { setTimeout as delay } from "node:timers/promises";
import type { SigningKeyRing } from "../external-tokens/signing-keys.ts";
import { dayOf } from "../store/audit-partitions.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { checkpointVerifier, type Floor } from "./chain.ts";
import { type Chain, type ChainProblem, createChain } from "./chain-events.ts";
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
const anchorEveryMs = 60 * 60_000;
const dayMs = 86_400_000;
/** How far the first search for unchained events looks back, ms. */
const firstSearchMs = 60 * 60_000;
/** Events that one search for unchained ones looks at. */
const mostSearched = 1_000_000;

interface AuditRecordDeps {
  readonly store: Pick<Store, "auditTrail" | "auditEvents" | "backgroundWork" | "signingKeys">;
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
    | "auditExportDelay"
  >;
  readonly retentionDays: number;
  /** Where events are sent; absent: nowhere. */
  readonly destination?: AuditDestination | undefined;
  readonly fetch: typeof globalThis.fetch;
  /** The gateway's, which is the source of its events. */
  readonly issuer: string;
}

/**
 * Keeps the audit trail a record: one replica at a time chains new events and signs the chain, one creates partitions ahead and removes
 * expired events, and one sends events to the collector. None waits for another: a slow collector must not delay the chain.
 * @returns stops, and leaves it to the other replicas
 */
export function keepAuditRecord(deps: AuditRecordDeps): { close(): Promise<void> } {
  const stopping = new AbortController();
  const { destination } = deps;
  const kept = Promise.all([
    keepTrying(deps, "audit_chain", stopping.signal, (stop) => chainEvents(deps, stop)),
    keepTrying(deps, "audit_maintenance", stopping.signal, (stop) => maintain(deps, stop)),
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
      .catch((error: Error) => logger.debug({ reason: error.message }, `cannot take over ${name}`));
    await pause(takeEveryMs * (0.75 + Math.random() / 2), stop);
  }
}

/** Repeats a round until `stop`; after failures, less and less often. Logs one line per outage. */
async function repeated(
  { logger }: Pick<AuditRecordDeps, "logger">,
  stop: AbortSignal,
  options: {
    readonly round: () => Promise<void>;
    readonly everyMs: number;
    /** Longest pause after failures. */
    readonly backoffMs?: number;
    readonly onOutcome?: (outcome: "completed" | "failed") => void;
    readonly failed: string;
  },
): Promise<void> {
  const { round, everyMs, backoffMs = everyMs, onOutcome = () => {}, failed } = options;
  for (let failures = 0; !stop.aborted; ) {
    try {
      await round();
      onOutcome("completed");
      failures = 0;
    } catch (error) {
      if (stop.aborted) return;
      onOutcome("failed");
      const reason = error instanceof Error ? error.message : "unknown";
      if (failures++ === 0) logger.warn({ reason }, `${failed}; it is tried again`);
    }
    await pause(Math.min(everyMs * 2 ** failures, backoffMs), stop);
  }
}

/** What the replica that sends events does, until it stops or another one takes over. */
async function exportEvents(
  deps: AuditRecordDeps,
  destination: AuditDestination,
  stop: AbortSignal,
): Promise<void> {
  const { store, fetch, issuer, metrics } = deps;
  const sending = {
    ...{ trail: store.auditTrail, fetch, issuer },
    onNext: (firstAt: Date) => metrics.auditExportDelay.set((Date.now() - firstAt.getTime()) / 1_000),
    onSent: (events: number) => metrics.auditExported.inc(events),
    onRewritten: (batch: number) => reportProblem(deps, "rewritten", batch),
  };
  try {
    await repeated(deps, stop, {
      async round() {
        await sendEvents(sending, destination, stop);
        metrics.auditExportDelay.set(0);
      },
      ...{ everyMs: roundEveryMs, backoffMs: longestBackoffMs },
      onOutcome: (outcome) => metrics.auditExports.inc({ outcome }),
      failed: "audit events were not sent to the collector",
    });
  } finally {
    metrics.auditExportDelay.set(0);
  }
}

function reportProblem(
  { metrics, logger }: Pick<AuditRecordDeps, "metrics" | "logger">,
  problem: ChainProblem,
  batch: number,
): void {
  metrics.auditChainProblems.inc({ problem });
  logger.error(
    { problem, batch },
    "the stored audit chain is not as this gateway wrote it; run audit verify",
  );
}

const newChain = (deps: AuditRecordDeps) =>
  createChain({
    trail: deps.store.auditTrail,
    signer: () => deps.keys.signer("audit"),
    verify: (jws) => checkpointVerifier(deps.keys.jwks("audit"))(jws),
    onProblem: (problem, batch) => reportProblem(deps, problem, batch),
  });

/** What the replica that chains events does, until it stops or another one takes over. */
async function chainEvents(deps: AuditRecordDeps, stop: AbortSignal): Promise<void> {
  const { store, logger, metrics } = deps;
  const chain = newChain(deps);
  let anchorAt = 0;
  let completedAt = performance.now();
  try {
    await repeated(deps, stop, {
      async round() {
        const { chained, oldestMs } = await chain.round();
        metrics.auditChained.inc(chained);
        metrics.auditChainDelay.set(chained === 0 ? 0 : oldestMs / 1_000);
        completedAt = performance.now();
        if (completedAt < anchorAt) return;
        anchorAt = completedAt + anchorEveryMs;
        const last = await store.auditTrail.latest();
        if (last) logger.info({ batch: last.number, checkpoint: last.checkpoint }, "audit checkpoint");
      },
      everyMs: roundEveryMs,
      onOutcome(outcome) {
        metrics.auditChainRounds.inc({ outcome });
        // Events may have waited for as long.
        if (outcome === "failed") metrics.auditChainDelay.set((performance.now() - completedAt) / 1_000);
      },
      failed: "audit events are not chained at present",
    });
  } finally {
    metrics.auditChainDelay.set(0);
  }
}

/** What the replica that maintains the audit trail does, until it stops or another one takes over. */
async function maintain(deps: AuditRecordDeps, stop: AbortSignal): Promise<void> {
  const { store, keys, logger, metrics, retentionDays } = deps;
  const { auditTrail: trail } = store;
  const chain = newChain(deps);
  const ago = (now: Date, ms: number) => new Date(now.getTime() - ms);
  let searched: number | undefined;

  async function round(): Promise<void> {
    const now = await trail.now();
    await trail.partitions.createAhead(now, retentionDays);
    const removed = await removeExpiredEvents(trail, chain, ago(now, retentionDays * dayMs));
    if (removed)
      logger.info({ ...removed, keys: await removeExpiredKeys(deps) }, "expired audit events were removed");
    await search(now);
  }

  /** Looks for events that were never chained, among those of the last hour at first, and then among new ones. */
  async function search(now: Date): Promise<void> {
    const last = await trail.latest();
    if (!last) return;
    const { since } = await checkpointVerifier(keys.jwks("audit"))(last.checkpoint);
    const [first] = await store.auditEvents({ since: ago(now, firstSearchMs), limit: 1 });
    searched ??= first && first.id - 1;
    if (searched === undefined) return;
    const floor = await chain.floor();
    const found = await findUnchained(trail, { now, since, floor, after: searched, most: mostSearched });
    searched = found.settledId ?? searched;
    if (found.added.length === 0) return;
    metrics.auditUnchained.inc(found.added.length);
    logger.error(
      { count: found.added.length },
      "audit events are not in the chain: they were inserted later, or committed too late; run audit verify",
    );
  }

  const failed = "the audit trail is not maintained at present";
  await repeated(deps, stop, { round, everyMs: maintainEveryMs, failed });
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

/**
 * Removes signing keys that were replaced before the first kept batch was made: nothing that is left is signed by them.
 * @returns how many
 */
export async function removeExpiredKeys({
  store: { auditTrail: trail, signingKeys },
  keys,
}: {
  readonly store: Pick<Store, "auditTrail" | "signingKeys">;
  readonly keys: Pick<SigningKeyRing, "jwks">;
}): Promise<number> {
  const [first] = await trail.batches(0, 1);
  if (!first) return 0;
  const { time } = await checkpointVerifier(keys.jwks("audit"))(first.checkpoint);
  // A replica may sign with the previous key until it knows the new one.
  return signingKeys.removeReplaced("audit", new Date(time.getTime() - dayMs));
}

const pause = (ms: number, stop: AbortSignal) =>
  delay(ms, undefined, { signal: stop, ref: false }).catch(() => {});
