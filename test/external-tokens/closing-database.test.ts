import { pino } from "pino";
import { expect, it } from "vitest";
import { createMetadataProofs } from "../../src/external-tokens/metadata-proofs.ts";
import { createSigningKeys, makeKey } from "../../src/external-tokens/signing-keys.ts";
import type { Change } from "../../src/store/notifications/notifications.ts";
import type { SigningKey } from "../../src/store/signing-keys.ts";

/** A database that notifies at once, and answers reads when it closes, with an error. */
function slowDatabase() {
  const { promise: closed, reject: close } = Promise.withResolvers<SigningKey[]>();
  closed.catch(() => {});
  let notify: (change: Change) => void = () => {};
  const metadataKey = async (): Promise<SigningKey> => ({
    ...(await makeKey("assertion", new Date())),
    purpose: "check_metadata",
    privateJwk: { kty: "oct", k: "c2VjcmV0LW9mLXRoaXJ0eS10d28tYnl0ZXMtaGVyZSE" },
  });
  return {
    store: {
      signingKeys: {
        ensure: async (purpose: SigningKey["purpose"]) =>
          purpose === "check_metadata" ? [await metadataKey()] : [await makeKey(purpose, new Date())],
        list: () => closed,
      },
      notifications: {
        healthy: () => true,
        subscribe(listener: typeof notify) {
          notify = listener;
          return () => {};
        },
      },
    },
    notify: () => notify({ table: "signing_key" }),
    async close() {
      close(new Error("the store did not answer"));
      await new Promise(setImmediate);
    },
  };
}

it.each([
  ["signing keys", createSigningKeys],
  ["check metadata keys", createMetadataProofs],
])(
  "%s: a reload that the database interrupts is an error, but not after the command that caused it has closed them",
  async (_, create) => {
    const logged: string[] = [];
    const write = (line: string) => void logged.push(JSON.parse(line).code);
    const keysOf = async (close: boolean) => {
      const database = slowDatabase();
      const keys = await create({
        store: database.store as never,
        logger: pino({ level: "error" }, { write }),
      });
      database.notify();
      if (close) keys.close();
      await database.close();
    };
    await keysOf(true);
    expect(logged).toEqual([]);
    await keysOf(false);
    expect(logged).toEqual([expect.stringMatching(/^(signing|metadata)_keys_not_reloaded$/)]);
  },
);
