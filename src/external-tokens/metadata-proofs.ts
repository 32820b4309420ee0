import { createHmac, createSecretKey, type KeyObject, randomBytes, timingSafeEqual } from "node:crypto";
import { upstreamCookiePrefix } from "../config/cookies.ts";
import type { Route } from "../model/route.ts";
import type { SigningKey } from "../store/signing-keys.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import { boundedCache } from "../util/bounded-cache.ts";
import { serialized } from "../util/single-flight.ts";

/** The fields that a proof covers: all dynamic metadata of a check that decisions about the upstream's response depend on. */
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

/** If the upstream responds later than this, the proof has expired, seconds. */
const lifeSeconds = 3600;
/** What a signed header is for: a call that lacks consent, one for an aggregated route, or one that can be repeated. */
type HeaderUse = "consent" | "call" | "retry";

/** How long a signed header is valid, seconds: Envoy sends it on at once, or when the start of the body has arrived. */
const headerSeconds = 60;
/** Tolerated clock difference between replicas, seconds. */
const leewaySeconds = 60;
/** Maximum number of used proofs to remember, per replica. */
const maxSpent = 20_000;

/**
 * Binds a check's dynamic metadata to that check, so that ext_proc never acts on metadata from another source. A proof is
 * `kid.issued.nonce.mac`: HMAC-SHA-256 over the rest of the proof and all proven fields. The keys are the same on every replica:
 * one replica may check a request and another may process its response.
 */
export interface MetadataProofs {
  /** A new proof for this request. */
  prove(metadata: ProvenMetadata): string;
  /** Whether `proof` was created by this gateway within the last hour for exactly this metadata. */
  verify(metadata: ProvenMetadata, proof: string | undefined): boolean;
  /** True on the first call for a proof only: one request has one response. Remembered by this replica only. */
  spend(proof: string): boolean;
  /**
   * A signed value for one header that reaches the gateway's HTTP listener, or its aggregated endpoint, through Envoy: `kid.issued.nonce.content.mac`. No value
   * is created twice, so that each can be spent.
   * @param use a value is valid for the same use only
   */
  signHeader(use: HeaderUse, content: object): string;
  /** The content of a header that this gateway has signed within the last minute; undefined for any other value. */
  openHeader(use: HeaderUse, value: string): unknown;
  /** Proves that the route's upstream has named a path outside `to` to this person. Valid as long as the keys. */
  proveUpstreamPath(route: ProvenRoute, userId: string, path: string): string;
  verifyUpstreamPath(route: ProvenRoute, userId: string, path: string, proof: string): boolean;
  /**
   * Name prefixes of the upstream's cookies in this person's clients, one per valid key, newest first: nobody else can forge a
   * cookie that is sent back to the upstream.
   */
  cookiePrefixes(route: ProvenRoute, userId: string): readonly string[];
  /**
   * Adds a key that is used after `publishSeconds`, when every replica knows it. Older keys stay valid for as long as a request may
   * wait for its upstream. With `revokeOld` they end at once, and pending responses that need a proof become 503.
   */
  rotate(publishSeconds: number, revokeOld?: boolean, actor?: string): Promise<string>;
  close(): void;
}

/** Includes the upstream: paths and cookies of a route's former upstream are not valid for its new one. */
type ProvenRoute = Pick<Route, "id" | "upstreamHash">;

interface LoadedKey {
  readonly kid: string;
  readonly key: KeyObject;
  readonly activeAt: number;
  readonly expiresAt: number;
}

/**
 * Loads the keys, creates the first one (once across replicas), and follows rotations on other replicas.
 * @throws the store's errors, at start only; if a later reload fails, the known keys stay in use.
 */
export async function createMetadataProofs(deps: {
  readonly store: Pick<Store, "signingKeys" | "notifications">;
  readonly logger: Logger;
  /** Unix milliseconds. */
  readonly now?: () => number;
}): Promise<MetadataProofs> {
  const { store, logger, now = Date.now } = deps;
  let keys = load(await store.signingKeys.ensure("check_metadata", async () => makeKey(new Date(now()))));
  const spent = boundedCache<string, true>(maxSpent, { ttl: (lifeSeconds + leewaySeconds) * 1000 });
  /** Unique per process; the counter makes proofs unique per request. */
  const process = randomBytes(9).toString("base64url");
  let count = 0;

  const reload = serialized(async () => {
    keys = load(await store.signingKeys.list("check_metadata"));
  });
  const unsubscribe = store.notifications.subscribe((change) => {
    if (change.table !== "signing_key" && change.table !== "everything") return;
    reload().catch((error: Error) =>
      logger.error(
        { code: "metadata_keys_not_reloaded", reason: error.message },
        "cannot reload the check metadata keys; the known keys stay in use",
      ),
    );
  });
  const current = (): LoadedKey => {
    const at = now();
    for (const key of keys) if (key.activeAt <= at && key.expiresAt > at) return key;
    const [next] = keys;
    if (!next) throw new Error("there is no check metadata key");
    return next;
  };

  const validKeys = () => keys.filter(({ expiresAt }) => expiresAt > now());

  return {
    prove(metadata) {
      const { kid, key } = current();
      count += 1;
      const head = `${kid}.${Math.floor(now() / 1000)}.${process}${count.toString(36)}`;
      return `${head}.${mac(key, head, metadata)}`;
    },
    verify(metadata, proof) {
      const parts = /^(([\w-]{1,64})\.(\d{1,12})\.[\w-]{1,64})\.([\w-]{43})$/.exec(proof ?? "");
      if (!parts) return false;
      const [, head = "", kid, issued, given = ""] = parts;
      const age = now() / 1000 - Number(issued);
      const found = keys.find((one) => one.kid === kid && one.expiresAt > now());
      if (!found || age > lifeSeconds || age < -leewaySeconds) return false;
      return isMac(given, mac(found.key, head, metadata));
    },
    spend(proof) {
      if (spent.has(proof)) return false;
      spent.set(proof, true);
      return true;
    },
    signHeader(use, content) {
      const { kid, key } = current();
      const json = Buffer.from(JSON.stringify(content)).toString("base64url");
      count += 1;
      const head = `${kid}.${Math.floor(now() / 1000)}.${process}${count.toString(36)}.${json}`;
      return `${head}.${headerMac(key, use, head)}`;
    },
    openHeader(use, value) {
      const parts = /^(([\w-]{1,64})\.(\d{1,12})\.[\w-]{1,64}\.([\w-]{1,16384}))\.([\w-]{43})$/.exec(value);
      if (!parts) return undefined;
      const [, head = "", kid, issued, json = "", given = ""] = parts;
      const age = now() / 1000 - Number(issued);
      const found = keys.find((one) => one.kid === kid && one.expiresAt > now());
      if (!found || age > headerSeconds || age < -leewaySeconds) return undefined;
      if (!isMac(given, headerMac(found.key, use, head))) return undefined;
      return JSON.parse(Buffer.from(json, "base64url").toString("utf8"));
    },
    proveUpstreamPath: (route, userId, path) =>
      routeMac(current().key, "place", route, userId, path).toString("base64url"),
    verifyUpstreamPath(route, userId, path, proof) {
      if (!/^[\w-]{43}$/.test(proof)) return false;
      const given = Buffer.from(proof, "base64url");
      return validKeys().some(({ key }) =>
        timingSafeEqual(given, routeMac(key, "place", route, userId, path)),
      );
    },
    cookiePrefixes(route, userId) {
      const newest = current();
      return [newest, ...validKeys().filter((one) => one !== newest)].map(
        ({ key }) =>
          `${upstreamCookiePrefix}${routeMac(key, "cookie", route, userId).toString("hex", 0, 12)}_`,
      );
    },
    async rotate(publishSeconds, revokeOld = false, actor) {
      const key = makeKey(new Date(now()), publishSeconds);
      const keptSeconds = revokeOld ? 0 : publishSeconds + lifeSeconds + leewaySeconds;
      await store.signingKeys.rotate(key, new Date(now() + keptSeconds * 1000), {
        action: "signing_key.rotated",
        actor,
        detail: { purpose: key.purpose, kid: key.kid },
      });
      await reload();
      return key.kid;
    },
    close: unsubscribe,
  };
}

/**
 * Compares in constant time. Of the four spellings that decode to the same MAC (the last character has two unused bits), only ours
 * counts: what may be used once is remembered by its text.
 */
function isMac(given: string, expected: string): boolean {
  return timingSafeEqual(Buffer.from(given, "latin1"), Buffer.from(expected, "latin1"));
}

/** JSON of the fields in a fixed order, so that different metadata never yields the same text. */
function mac(key: KeyObject, head: string, metadata: ProvenMetadata): string {
  const fields = provenFields.map((name) => metadata[name] ?? null);
  return createHmac("sha256", key)
    .update(JSON.stringify([head, ...fields]))
    .digest("base64url");
}

/**
 * The first member distinguishes the uses, and differs from a proof's first member, which has dots. `place` stays: it is part of valid
 * MACs.
 */
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

/** As in `routeMac`: `header` distinguishes the use. */
function headerMac(key: KeyObject, use: HeaderUse, head: string): string {
  return createHmac("sha256", key)
    .update(JSON.stringify(["header", use, head]))
    .digest("base64url");
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
      if (bytes.length < 32) throw new Error("a check metadata key is too short");
      return {
        kid,
        key: createSecretKey(bytes),
        activeAt: activeAt.getTime(),
        expiresAt: expiresAt?.getTime() ?? Number.POSITIVE_INFINITY,
      };
    })
    .sort((a, b) => b.activeAt - a.activeAt);
}
