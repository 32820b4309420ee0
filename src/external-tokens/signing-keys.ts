import {
  calculateJwkThumbprint,
  exportJWK,
  generateKeyPair,
  importJWK,
  type JSONWebKeySet,
  type JWK,
} from "jose";
import { type SigningKey, type SigningKeyPurpose, signingKeyPurposes } from "../store/signing-keys.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import { serialized } from "../util/single-flight.ts";

/** The purpose of a key pair; the symmetric check metadata keys are not part of the key ring. */
export type SigningPurpose = Exclude<SigningKeyPurpose, "check_metadata">;

/** The current signing key: its id and its private key, which cannot be extracted. */
export interface Signer {
  readonly kid: string;
  readonly key: CryptoKey;
}

/** The gateway's signing keys in memory, the same on every replica. All keys are ES256. */
export interface SigningKeyRing {
  /** The newest key of this purpose whose `activeAt` has passed. */
  signer(purpose: SigningPurpose): Signer;
  /** The public key of a published key pair; undefined for an unknown or expired kid. */
  verifier(purpose: SigningPurpose, kid: string): CryptoKey | undefined;
  /** Public keys to publish (RFC 7517 section 5), including those that will sign soon. */
  jwks(purpose: SigningPurpose): JSONWebKeySet;
  /** Private JWKs, the signing one first, for oidc-provider, which signs by itself. Never published. */
  privateKeys(purpose: SigningPurpose): JWK[];
  /** Calls `listener` after the keys have changed; returns an unsubscribe function. */
  onChange(listener: () => void): () => void;
  /**
   * Adds a key that signs after `publishSeconds`, when verifiers have fetched it. Older keys stay published for another
   * `keepSeconds`, which must cover the longest lifetime of the tokens they signed.
   * @param actor of the audit event
   */
  rotate(
    purpose: SigningPurpose,
    publishSeconds: number,
    keepSeconds: number,
    actor?: string,
  ): Promise<string>;
  close(): void;
}

interface LoadedKey {
  readonly kid: string;
  readonly privateJwk: JWK;
  readonly publicJwk: JWK;
  readonly privateKey: CryptoKey;
  readonly publicKey: CryptoKey;
  readonly activeAt: number;
  readonly expiresAt: number;
}

const everyPurpose = signingKeyPurposes.filter((purpose) => purpose !== "check_metadata");

/**
 * Loads the signing keys, creates the first one of each purpose (once across replicas), and follows rotations on other replicas.
 * @throws the store's errors, at start only; if a later reload fails, the known keys stay in use.
 */
export async function createSigningKeys(deps: {
  readonly store: Pick<Store, "signingKeys" | "notifications">;
  readonly logger: Logger;
  /** Unix milliseconds. */
  readonly now?: () => number;
}): Promise<SigningKeyRing> {
  const { store, logger } = deps;
  const now = deps.now ?? Date.now;
  const keys = new Map<SigningPurpose, LoadedKey[]>();
  const listeners = new Set<() => void>();

  const put = async (purpose: SigningPurpose, rows: readonly SigningKey[]) => {
    const loaded = await Promise.all(rows.map(loadKey));
    keys.set(
      purpose,
      loaded.sort((a, b) => b.activeAt - a.activeAt),
    );
  };
  const reload = serialized(async () => {
    await Promise.all(
      everyPurpose.map(async (purpose) => put(purpose, await store.signingKeys.list(purpose))),
    );
    for (const listener of listeners) listener();
  });
  for (const purpose of everyPurpose) {
    await put(purpose, await store.signingKeys.ensure(purpose, () => makeKey(purpose, new Date(now()))));
  }
  let closed = false;
  const unsubscribe = store.notifications.subscribe((change) => {
    if (change.table !== "signing_key" && change.table !== "everything") return;
    reload().catch((error: Error) => {
      // A command closes the database right after it has changed the keys.
      if (closed) return;
      logger.error(
        { code: "signing_keys_not_reloaded", reason: error.message },
        "cannot reload the signing keys; the known keys stay in use",
      );
    });
  });

  const published = (purpose: SigningPurpose) =>
    (keys.get(purpose) ?? []).filter((key) => key.expiresAt > now());
  const signing = (purpose: SigningPurpose): LoadedKey => {
    const known = published(purpose);
    const key = known.find((candidate) => candidate.activeAt <= now()) ?? known.at(-1);
    if (!key) throw new Error(`no signing key for ${purpose}`);
    return key;
  };

  return {
    signer(purpose) {
      const { kid, privateKey } = signing(purpose);
      return { kid, key: privateKey };
    },
    verifier: (purpose, kid) => published(purpose).find((key) => key.kid === kid)?.publicKey,
    jwks: (purpose) => ({ keys: published(purpose).map((key) => key.publicJwk) }),
    privateKeys(purpose) {
      const first = signing(purpose);
      return [first, ...published(purpose).filter((key) => key !== first)].map((key) => key.privateJwk);
    },
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async rotate(purpose, publishSeconds, keepSeconds, actor) {
      const key = await makeKey(purpose, new Date(now()), publishSeconds);
      const seconds = publishSeconds + keepSeconds;
      // A key that ends at once has ended by every replica's clock.
      const oldExpireAt = new Date(seconds === 0 ? 0 : now() + seconds * 1000);
      await store.signingKeys.rotate(key, oldExpireAt, {
        action: "signing_key.rotated",
        actor,
        detail: { purpose, kid: key.kid },
      });
      await reload();
      return key.kid;
    },
    close() {
      closed = true;
      unsubscribe();
      listeners.clear();
    },
  };
}

/** The public keys of a purpose, for a command that neither creates nor follows keys. */
export async function publicKeys(
  store: Pick<Store, "signingKeys">,
  purpose: SigningPurpose,
): Promise<JSONWebKeySet> {
  const keys = await Promise.all((await store.signingKeys.list(purpose)).map(loadKey));
  return { keys: keys.map(({ publicJwk }) => publicJwk) };
}

/** A new signing key (ES256), not stored yet. */
export async function makeKey(purpose: SigningPurpose, at: Date, publishSeconds = 0): Promise<SigningKey> {
  const { privateKey } = await generateKeyPair("ES256", { extractable: true });
  const jwk = await exportJWK(privateKey);
  const kid = await calculateJwkThumbprint(jwk);
  return {
    kid,
    purpose,
    privateJwk: { ...jwk, kid, alg: "ES256", use: "sig" },
    createdAt: at,
    activeAt: new Date(at.getTime() + publishSeconds * 1000),
  };
}

async function loadKey(row: SigningKey): Promise<LoadedKey> {
  const privateJwk: JWK = { ...row.privateJwk, kid: row.kid, alg: "ES256", use: "sig" };
  // Named fields instead of "all but d": an unknown private member can never be published.
  const publicJwk: JWK = {
    kty: privateJwk.kty,
    crv: privateJwk.crv,
    x: privateJwk.x,
    y: privateJwk.y,
    kid: row.kid,
    alg: "ES256",
    use: "sig",
  };
  return {
    kid: row.kid,
    privateJwk,
    publicJwk,
    privateKey: await importCryptoKey(privateJwk),
    publicKey: await importCryptoKey(publicJwk),
    activeAt: row.activeAt.getTime(),
    expiresAt: row.expiresAt?.getTime() ?? Number.POSITIVE_INFINITY,
  };
}

async function importCryptoKey(jwk: JWK): Promise<CryptoKey> {
  const key = await importJWK(jwk, "ES256");
  if (key instanceof Uint8Array) throw new Error("a signing key is not an EC key");
  return key;
}
