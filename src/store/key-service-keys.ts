import { boundedCache } from "../util/bounded-cache.ts";
import type { KeyEncryptionKeys } from "./key-encryption-keys.ts";
import { StoreUnavailable } from "./store-unavailable.ts";

/** What a key service does for us: make data keys, and open the wrapped ones again. The keys that wrap never leave it. */
export interface KeyService {
  /** Whether it made the ciphertext that names this key. */
  owns(kid: string): boolean;
  /** Name of its key, with the version where the service tells it: rows that name another are rewritten by `rotate-keys`. */
  newest(): string;
  /** 32 bytes, and the form that is stored. */
  make(): Promise<{ readonly kid: string; readonly key: Uint8Array; readonly wrapped: string }>;
  /** Undefined: the service says that it cannot, now or ever. @throws StoreUnavailable */
  unwrap(wrapped: string): Promise<Uint8Array | undefined>;
}

const keyBytes = 32;
const wrongLength = () =>
  new StoreUnavailable("key service", new Error(`a data key that is not ${keyBytes} bytes long`));

/** Unwrapped data keys kept in memory, so that reading a row again asks nobody. */
const maxDataKeys = 20_000;

/** Every ciphertext has a data key of its own, stored wrapped beside it in the JWE's header. */
export function keyServiceKeys(service: KeyService): KeyEncryptionKeys {
  const dataKeys = boundedCache<string, Uint8Array>(maxDataKeys);
  return {
    newest: () => service.newest(),
    async encryptionKey() {
      const { kid, key, wrapped } = await service.make();
      if (key.length !== keyBytes) throw wrongLength();
      dataKeys.set(wrapped, key);
      return { header: { alg: "dir", enc: "A256GCM", kid, wrapped }, key };
    },
    async decryptionKey({ alg, kid, wrapped }) {
      if (alg !== "dir" || typeof wrapped !== "string" || !kid || !service.owns(kid)) return undefined;
      const known = dataKeys.get(wrapped);
      if (known) return known;
      const key = await service.unwrap(wrapped);
      if (!key) return undefined;
      if (key.length !== keyBytes) throw wrongLength();
      dataKeys.set(wrapped, key);
      return key;
    },
  };
}
