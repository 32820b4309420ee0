import { type Checkpoint, checkpointVerifier } from "../../src/audit-trail/chain.ts";
import { type Chain, createChain } from "../../src/audit-trail/chain-events.ts";
import { type Verification, verifyTrail } from "../../src/audit-trail/verify-trail.ts";
import { createSigningKeys, type SigningKeyRing } from "../../src/external-tokens/signing-keys.ts";
import type { Store } from "../../src/store/store.ts";
import { type Backend, backends, logger } from "../store/backends.ts";

const hourMs = 3_600_000;

/** A database whose events are chained by calls, and access to it as an attacker has it. */
export interface TestTrail {
  readonly store: Store;
  readonly keys: SigningKeyRing;
  readonly backend: Backend;
  /** Statements of somebody who can write to the database. */
  readonly query: Backend["query"];
  readonly problems: string[];
  /** Another process that chains. */
  newChain(trail?: Store["auditTrail"]): Chain;
  readonly chain: Chain;
  /** Writes so many events. */
  write(count: number, userId?: string): Promise<void>;
  /** Verifies the database, as an hour later: what is not chained by then never will be. */
  verify(checkpoints?: readonly Checkpoint[]): Promise<Verification>;
  /** What was found, as `problem id`. */
  findings(checkpoints?: readonly Checkpoint[]): Promise<string[]>;
  checkpoints(): Promise<Checkpoint[]>;
  close(): Promise<void>;
}

/** The chain begins a day ago. */
export async function startTrail(kind: keyof typeof backends = "postgres"): Promise<TestTrail> {
  const backend = await backends[kind]();
  const store = await backend.open();
  const keys = await createSigningKeys({ store, logger });
  const problems: string[] = [];
  const { auditTrail: trail } = store;
  const verify = (jws: string) => checkpointVerifier(keys.jwks("audit"))(jws);
  const newChain = (own = trail) =>
    createChain({
      trail: own,
      signer: () => keys.signer("audit"),
      verify,
      onProblem: (problem, batch) => problems.push(`${problem} ${batch}`),
    });
  await newChain({
    ...trail,
    now: async () => new Date(Date.now() - 24 * hourMs),
    async *pagesSince() {},
  }).round();
  const verifyLater = (checkpoints: readonly Checkpoint[] = []) =>
    verifyTrail({
      trail: { ...trail, now: async () => new Date(Date.now() + hourMs) },
      verify,
      checkpoints,
    });
  return {
    ...{ store, keys, backend, problems, newChain },
    query: backend.query,
    chain: newChain(),
    async write(count, userId = "company/alice") {
      for (let n = 0; n < count; n++)
        await store.audit({ action: "policy.denied", userId, reason: `${n}`, detail: { rule: `é${n}` } });
    },
    verify: verifyLater,
    async findings(checkpoints) {
      const { findings } = await verifyLater(checkpoints);
      return findings.map(({ problem, id, batch }) => `${problem} ${id ?? `batch ${batch}`}`);
    },
    async checkpoints() {
      return Promise.all((await trail.batches(0, 1_000)).map(({ checkpoint }) => verify(checkpoint)));
    },
    async close() {
      keys.close();
      await store.close();
      await backend.close();
    },
  };
}
