import { createHash, randomBytes } from "node:crypto";
import canonicalize from "canonicalize";
import { CompactSign, compactVerify, createLocalJWKSet, errors, type JSONWebKeySet } from "jose";
import type { AuditBatch } from "../store/audit-batches.ts";
import { auditRecord, type RecordedAuditEvent } from "../store/audit-events.ts";

/** The `typ` of a checkpoint: nothing else that the gateway signs can pass for one. */
const type = "audit-checkpoint";
const alg = "ES256";
const hashBytes = 32;

/** What the first batch has in place of the hash of an earlier one: random, so that no two chains have a batch in common. */
export const newChainId = (): string => randomBytes(hashBytes).toString("base64url");

/** Events from before the day of `before`, and batches before `batch`, were removed because they have expired. */
export interface Floor {
  readonly batch: number;
  readonly before: Date;
}

/** What a checkpoint states about the chain up to a batch. Signed, so that nobody without the key can shorten or rewrite the chain. */
export interface Checkpoint {
  readonly number: number;
  readonly count: number;
  /** Absent without events. */
  readonly firstId?: number;
  readonly lastId?: number;
  readonly firstAt: Date;
  readonly lastAt: Date;
  readonly previous: string;
  readonly hash: string;
  /** When it was made, by the database's clock. */
  readonly time: Date;
  /** When the chain began; events from before are not in it. */
  readonly since: Date;
  readonly floor?: Floor;
}

/** The canonical JSON (RFC 8785) of an exported event, hashed: an exported line verifies without the database. */
export function hashRecord(record: unknown): Buffer {
  // Without undefined values, as in the exported line.
  return sha256(canonicalize(JSON.parse(JSON.stringify(record))) ?? "");
}

const sha256 = (text: string) => createHash("sha256").update(text).digest();

/** The events of a batch, with their hashes. */
export interface HashedEvent {
  readonly id: number;
  readonly hash: Buffer;
}

export const hashEvents = (events: readonly RecordedAuditEvent[]): HashedEvent[] =>
  events.map((event) => ({ id: event.id, hash: hashRecord(auditRecord(event)) }));

/** The events of a stored or exported batch; undefined if ids and hashes do not match. */
export function eventsOf({ ids, hashes }: Pick<AuditBatch, "ids" | "hashes">): HashedEvent[] | undefined {
  if (!Array.isArray(ids) || hashes.length !== ids.length * hashBytes) return undefined;
  const bytes = Buffer.from(hashes);
  return ids.map((id, n) => ({ id, hash: bytes.subarray(n * hashBytes, (n + 1) * hashBytes) }));
}

/** The hash of a batch: over its number, the batch before, and its events in order. */
export function hashBatch(number: number, previous: string, events: readonly HashedEvent[]): string {
  const listed = events.map(({ id, hash }) => [id, hash.toString("base64url")]);
  return sha256(canonicalize({ number, previous, events: listed }) ?? "").toString("base64url");
}

/** Signs a checkpoint as a compact JWS (RFC 7515 section 3.1). */
export function signCheckpoint(
  { firstId, lastId, firstAt, lastAt, floor, ...checkpoint }: Checkpoint,
  signer: { readonly kid: string; readonly key: CryptoKey },
): Promise<string> {
  const payload = {
    number: checkpoint.number,
    count: checkpoint.count,
    first_id: firstId,
    last_id: lastId,
    first_at: firstAt,
    last_at: lastAt,
    previous: checkpoint.previous,
    hash: checkpoint.hash,
    time: checkpoint.time,
    since: checkpoint.since,
    floor: floor && { batch: floor.batch, before: floor.before },
  };
  return new CompactSign(Buffer.from(JSON.stringify(payload)))
    .setProtectedHeader({ alg, kid: signer.kid, typ: type })
    .sign(signer.key);
}

/** Why a checkpoint is not accepted. */
export class InvalidCheckpoint extends Error {
  readonly reason: "unknown_key" | "invalid_signature";
  constructor(reason: "unknown_key" | "invalid_signature") {
    super(
      reason === "unknown_key"
        ? "its checkpoint is signed by a key that is not in the key set"
        : "its checkpoint has no valid signature",
    );
    this.name = "InvalidCheckpoint";
    this.reason = reason;
  }
}

/** @returns verifies a checkpoint by these keys @throws InvalidCheckpoint */
export function checkpointVerifier(keys: JSONWebKeySet): (jws: string) => Promise<Checkpoint> {
  const keySet = createLocalJWKSet(keys);
  return async (jws) => {
    try {
      const { payload, protectedHeader } = await compactVerify(jws, keySet, { algorithms: [alg] });
      if (protectedHeader.typ !== type) throw new InvalidCheckpoint("invalid_signature");
      return checkpointOf(JSON.parse(Buffer.from(payload).toString("utf8")));
    } catch (error) {
      if (error instanceof InvalidCheckpoint) throw error;
      throw new InvalidCheckpoint(
        error instanceof errors.JWKSNoMatchingKey ? "unknown_key" : "invalid_signature",
      );
    }
  };
}

/** The payload of a verified checkpoint: signed by this product, so its fields are as `signCheckpoint` wrote them. */
function checkpointOf(payload: {
  number: number;
  count: number;
  first_id?: number;
  last_id?: number;
  first_at: string;
  last_at: string;
  previous: string;
  hash: string;
  time: string;
  since: string;
  floor?: { batch: number; before: string };
}): Checkpoint {
  const { first_id: firstId, last_id: lastId, floor } = payload;
  return {
    number: payload.number,
    count: payload.count,
    ...(firstId !== undefined && { firstId }),
    ...(lastId !== undefined && { lastId }),
    firstAt: new Date(payload.first_at),
    lastAt: new Date(payload.last_at),
    previous: payload.previous,
    hash: payload.hash,
    time: new Date(payload.time),
    since: new Date(payload.since),
    ...(floor && { floor: { batch: floor.batch, before: new Date(floor.before) } }),
  };
}
