import { describe, expect, it, onTestFinished } from "vitest";
import { createMetadataProofs } from "../../src/external-tokens/metadata-proofs.ts";
import type { Change } from "../../src/store/notifications/notifications.ts";
import type { SigningKey } from "../../src/store/signing-keys.ts";
import { createLogger } from "../../src/telemetry/logger.ts";

const metadata = { route: "notes", user: "company/alice", version: 3, refreshable: 1, path: "/mcp" } as const;
const logger = createLogger({ level: "silent" });

/** The keys in a database, and replicas that use it. */
function database() {
  let rows: SigningKey[] = [];
  const listeners = new Set<(change: Change) => void>();
  const clock = { now: Date.now() };
  const store = {
    signingKeys: {
      list: async () => rows,
      async ensure(_purpose: string, make: () => Promise<SigningKey>) {
        if (rows.length === 0) rows = [await make()];
        return rows;
      },
      async rotate(key: SigningKey, expiresAt: Date) {
        rows = [...rows.map((row) => ({ ...row, expiresAt })), key];
      },
    },
    notifications: {
      healthy: () => true,
      subscribe(listener: (change: Change) => void) {
        listeners.add(listener);
        return () => void listeners.delete(listener);
      },
    },
  };
  return {
    clock,
    async replica() {
      const proofs = await createMetadataProofs({ store: store as never, logger, now: () => clock.now });
      onTestFinished(() => proofs.close());
      return proofs;
    },
    async notify() {
      for (const listener of listeners) listener({ table: "signing_key" });
      await new Promise(setImmediate);
    },
  };
}

describe("a check's metadata is bound to it", () => {
  it("one replica checks the request, another processes the response", async () => {
    const { replica } = database();
    const [one, other] = [await replica(), await replica()];
    expect(other.verify(metadata, one.prove(metadata))).toBe(true);
  });

  it("no field can be changed, added, omitted or moved to another one", async () => {
    const proofs = await database().replica();
    const proof = proofs.prove(metadata);
    for (const changed of [
      { ...metadata, route: "tickets" },
      { ...metadata, user: "company/bob" },
      { ...metadata, version: 4 },
      { ...metadata, version: "3" },
      { ...metadata, owner: "company/bob" },
      { ...metadata, tool_filter: "true" },
      { ...metadata, path: undefined },
      { ...metadata, path: undefined, request_id: "/mcp" },
    ])
      expect(proofs.verify(changed, proof)).toBe(false);
    for (const forged of [
      undefined,
      "",
      "x",
      `${proof}x`,
      proof.replace(/\.\d+\./, ".1."),
      proof.slice(0, -1),
    ])
      expect(proofs.verify(metadata, forged)).toBe(false);
  });

  it("two requests have different proofs, and each is valid once", async () => {
    const proofs = await database().replica();
    const [one, other] = [proofs.prove(metadata), proofs.prove(metadata)];
    expect(one).not.toBe(other);
    expect([proofs.spend(one), proofs.spend(one), proofs.spend(other)]).toEqual([true, false, true]);
  });

  it("a proof expires after an hour, and is not valid if it is from the future", async () => {
    const { clock, replica } = database();
    const proofs = await replica();
    const proof = proofs.prove(metadata);
    clock.now += 3_590_000;
    expect(proofs.verify(metadata, proof)).toBe(true);
    clock.now += 20_000;
    expect(proofs.verify(metadata, proof)).toBe(false);
    const later = proofs.prove(metadata);
    clock.now -= 120_000;
    expect(proofs.verify(metadata, later)).toBe(false);
  });

  it("has one spelling: another one that decodes to the same bytes is not accepted a second time", async () => {
    const proofs = await database().replica();
    const proof = proofs.prove(metadata);
    const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const last = alphabet.indexOf(proof.slice(-1));
    const spellings = [0, 1, 2, 3].map((bits) => proof.slice(0, -1) + alphabet[last ^ bits]);
    expect(spellings.map((one) => proofs.verify(metadata, one))).toEqual([true, false, false, false]);
  });

  it("rotation: no replica uses a key before all replicas can know it, and the old key stays valid", async () => {
    const { clock, replica, notify } = database();
    const [one, other] = [await replica(), await replica()];
    const before = one.prove(metadata);
    const kid = await one.rotate(600);
    expect(one.prove(metadata).startsWith(`${kid}.`)).toBe(false);
    await notify();
    clock.now += 601_000;
    const after = one.prove(metadata);
    expect(after.startsWith(`${kid}.`)).toBe(true);
    expect([other.verify(metadata, before), other.verify(metadata, after)]).toEqual([true, true]);
    const revoked = await one.rotate(0, true);
    await notify();
    expect(one.prove(metadata).startsWith(`${revoked}.`)).toBe(true);
    expect(other.verify(metadata, after)).toBe(false);
  });
});
