import { createHmac, createSecretKey, type KeyObject, randomBytes, timingSafeEqual } from "node:crypto";
import { cookieMark } from "../config/cookies.ts";
import type { Route } from "../model/route.ts";
import type { SigningKey } from "../store/signing-keys.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import { boundedCache } from "../util/bounded-cache.ts";

/** What a proof speaks for: every field of a check's dynamic metadata that an answer of the upstream is later judged by. */
export const provenFields = [
  "route",
  "upstream",
  "user",
  "client",
  "owner",
  "endpoint",
  "machine",
  "connection",
  "version",
  "refreshable",
  "path",
  "request_id",
  "tool_filter",
] as const;
export type ProvenField = (typeof provenFields)[number];
export type ProvenMetadata = { readonly [name in ProvenField]?: string | number | undefined };

/** An upstream that has not begun to answer by then is answered for, seconds. */
const lifeSeconds = 3600;
/** Replicas' clocks may differ by this, seconds. */
const leewaySeconds = 60;
/** Proofs that were acted on, per replica. */
const mostSpent = 20_000;

/**
 * Binds what a check leaves in Envoy's dynamic metadata to that check, so that ext_proc acts on nothing that somebody else has
 * written. A proof is `kid.issued.nonce.mac`: HMAC-SHA-256 over all of it and all proven fields. The keys are the same on every
 * replica: one may check a request whose answer another gets to see.
 */
export interface MetadataProofs {
  /** A new proof for this request. */
  prove(metadata: ProvenMetadata): string;
  /** Whether `proof` is ours, made within the last hour for exactly this metadata. */
  verify(metadata: ProvenMetadata, proof: string | undefined): boolean;
  /** Says once per proof that it may be acted upon: one request has one answer. Remembered by this replica only. */
  spend(proof: string): boolean;
  /** Proves that the upstream of this route has named a path outside of `to` to this person; lives as long as the keys do. */
  proveUpstreamPath(route: ProvenRoute, userId: string, path: string): string;
  verifyUpstreamPath(route: ProvenRoute, userId: string, path: string, proof: string): boolean;
  /**
   * What the names of the upstream's cookies begin with at this person's clients, by every living key, the newest first: nobody else
   * can make up one that goes back.
   */
  cookiePrefixes(route: ProvenRoute, userId: string): readonly string[];
  /**
   * Adds a key that is used after `publishSeconds`, by when every replica knows it. Older keys stay for as long as a request may
   * wait for its upstream; with `revokeOld` they end at once, and answers under way are 503 where they would be judged.
   */
  rotate(publishSeconds: number, revokeOld?: boolean): Promise<string>;
  close(): void;
}

/** Another upstream of the route has named, and set, nothing yet. */
type ProvenRoute = Pick<Route, "id" | "upstreamHash">;

interface LoadedKey {
  readonly kid: string;
  readonly key: KeyObject;
  readonly activeAt: number;
  readonly expiresAt: number;
}

/**
 * Loads the keys, makes the first (once across replicas), and follows rotations on other replicas.
 * @throws what the store throws, at start only; a later reload that fails keeps the keys that are known.
 */
export async function createMetadataProofs(deps: {
  readonly store: Pick<Store, "signingKeys" | "notifications">;
  readonly logger: Logger;
  /** Unix milliseconds. */
  readonly now?: () => number;
}): Promise<MetadataProofs> {
  const { store, logger, now = Date.now } = deps;
  let keys = load(await store.signingKeys.ensure("check_metadata", async () => makeKey(new Date(now()))));
  const spent = boundedCache<string, true>(mostSpent, { ttl: (lifeSeconds + leewaySeconds) * 1000 });
  /** Unique by the process; the counter makes it so by the request. */
  const process = randomBytes(9).toString("base64url");
  let count = 0;

  const reload = async () => {
    keys = load(await store.signingKeys.list("check_metadata"));
  };
  const unsubscribe = store.notifications.subscribe((change) => {
    if (change.table !== "signing_key" && change.table !== "everything") return;
    reload().catch((error: Error) =>
      logger.error(
        { code: "metadata_keys_not_reloaded", reason: error.message },
        "kept the known keys of check metadata",
      ),
    );
  });
  const current = (): LoadedKey => {
    const at = now();
    for (const key of keys) if (key.activeAt <= at && key.expiresAt > at) return key;
    const [next] = keys;
    if (!next) throw new Error("no key for check metadata");
    return next;
  };

  const living = () => keys.filter(({ expiresAt }) => expiresAt > now());

  return {
    prove(metadata) {
      const { kid, key } = current();
      count += 1;
      const head = `${kid}.${Math.floor(now() / 1000)}.${process}${count.toString(36)}`;
      return `${head}.${mac(key, head, metadata).toString("base64url")}`;
    },
    verify(metadata, proof) {
      const parts = /^(([\w-]{1,64})\.(\d{1,12})\.[\w-]{1,64})\.([\w-]{43})$/.exec(proof ?? "");
      if (!parts) return false;
      const [, head = "", kid, issued, given = ""] = parts;
      const age = now() / 1000 - Number(issued);
      const found = keys.find((one) => one.kid === kid && one.expiresAt > now());
      if (!found || age > lifeSeconds || age < -leewaySeconds) return false;
      return timingSafeEqual(Buffer.from(given, "base64url"), mac(found.key, head, metadata));
    },
    spend(proof) {
      if (spent.has(proof)) return false;
      spent.set(proof, true);
      return true;
    },
    proveUpstreamPath: (route, userId, path) =>
      routeMac(current().key, "place", route, userId, path).toString("base64url"),
    verifyUpstreamPath(route, userId, path, proof) {
      if (!/^[\w-]{43}$/.test(proof)) return false;
      const given = Buffer.from(proof, "base64url");
      return living().some(({ key }) => timingSafeEqual(given, routeMac(key, "place", route, userId, path)));
    },
    cookiePrefixes(route, userId) {
      const newest = current();
      return [newest, ...living().filter((one) => one !== newest)].map(
        ({ key }) => `${cookieMark}${routeMac(key, "cookie", route, userId).toString("hex", 0, 12)}_`,
      );
    },
    async rotate(publishSeconds, revokeOld = false) {
      const key = makeKey(new Date(now()), publishSeconds);
      const keptSeconds = revokeOld ? 0 : publishSeconds + lifeSeconds + leewaySeconds;
      await store.signingKeys.rotate(key, new Date(now() + keptSeconds * 1000), {
        action: "signing_key.rotated",
        detail: { purpose: key.purpose, kid: key.kid },
      });
      await reload();
      return key.kid;
    },
    close: unsubscribe,
  };
}

/** JSON of the fields in a fixed order: no two sets of them look the same. */
function mac(key: KeyObject, head: string, metadata: ProvenMetadata): Buffer {
  const fields = provenFields.map((name) => metadata[name] ?? null);
  return createHmac("sha256", key)
    .update(JSON.stringify([head, ...fields]))
    .digest();
}

/** The first member tells it from a proof, whose first one has dots, and one use from the other. */
function routeMac(
  key: KeyObject,
  use: "place" | "cookie",
  { id, upstreamHash }: ProvenRoute,
  userId: string,
  path?: string,
): Buffer {
  return createHmac("sha256", key)
    .update(JSON.stringify([use, id, upstreamHash, userId, path ?? null]))
    .digest();
}

function makeKey(at: Date, publishSeconds = 0): SigningKey {
  const kid = randomBytes(12).toString("base64url");
  return {
    kid,
    purpose: "check_metadata",
    privateJwk: { kty: "oct", alg: "HS256", kid, k: randomBytes(32).toString("base64url") },
    createdAt: at,
    activeAt: new Date(at.getTime() + publishSeconds * 1000),
  };
}

/** Newest first. */
function load(rows: readonly SigningKey[]): LoadedKey[] {
  return rows
    .map(({ kid, privateJwk, activeAt, expiresAt }) => {
      const bytes = Buffer.from(typeof privateJwk.k === "string" ? privateJwk.k : "", "base64url");
      if (bytes.length < 32) throw new Error("a key of check metadata is too short");
      return {
        kid,
        key: createSecretKey(bytes),
        activeAt: activeAt.getTime(),
        expiresAt: expiresAt?.getTime() ?? Number.POSITIVE_INFINITY,
      };
    })
    .sort((a, b) => b.activeAt - a.activeAt);
}
