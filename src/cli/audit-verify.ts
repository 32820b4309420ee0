import { createReadStream, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import type { JSONWebKeySet } from "jose";
import { type Checkpoint, checkpointVerifier, InvalidCheckpoint } from "../audit-trail/chain.ts";
import { checkpointsIn, type ExportedLine, verifyFiles } from "../audit-trail/verify-files.ts";
import { mostFindings, type Verification, verifyTrail } from "../audit-trail/verify-trail.ts";
import { publicKeys } from "../external-tokens/signing-keys.ts";
import { systemReason } from "../util/unusable-setting.ts";
import { type CommandOptions, withStore } from "./command.ts";

/** Timeout of a database operation: nobody waits for it, ms. */
const operationTimeoutMs = 60_000;

interface VerifyOptions extends CommandOptions {
  /** Exported files; none: the database. */
  readonly files: readonly string[];
  /** A file with the key set that `audit keys` prints; needed for files. */
  readonly keys?: string;
  /** A file with checkpoints that were exported earlier. */
  readonly checkpoints?: string;
  readonly json?: boolean;
}

/**
 * The command `audit verify`: compares the audit trail in the database, or in exported files, with its signed chain.
 * @returns the exit code: 1 if something is not as it was recorded
 */
export async function runAuditVerify(options: VerifyOptions): Promise<number> {
  const { files, keys, err } = options;
  try {
    if (files.length > 0) {
      if (keys === undefined) {
        err("files are verified with --keys FILE, the key set that audit keys has printed\n");
        return 1;
      }
      const verify = checkpointVerifier(readKeys(keys));
      const checkpoints = await readCheckpoints(options, verify);
      return report(options, await verifyFiles(linesOf(files), verify, checkpoints));
    }
    return await withStore(
      options,
      async ({ store }) => {
        const verify = checkpointVerifier(keys ? readKeys(keys) : await publicKeys(store, "audit"));
        const checkpoints = await readCheckpoints(options, verify);
        return report(options, await verifyTrail({ trail: store.auditTrail, verify, checkpoints }));
      },
      { operationTimeoutMs },
    );
  } catch (error) {
    if (!(error instanceof UnusableFile)) throw error;
    err(`${error.message}\n`);
    return 1;
  }
}

/** The command `audit keys`: prints the public keys that verify checkpoints (RFC 7517). @returns the exit code */
export function runAuditKeys(options: CommandOptions): Promise<number> {
  return withStore(options, async ({ store }) => {
    options.out(`${JSON.stringify(await publicKeys(store, "audit"))}\n`);
    return 0;
  });
}

class UnusableFile extends Error {}

function readKeys(path: string): JSONWebKeySet {
  try {
    const keys: unknown = JSON.parse(readFileSync(path, "utf8"));
    if (isKeySet(keys)) return keys;
  } catch (error) {
    throw new UnusableFile(`--keys: cannot read ${path}: ${systemReason(error)}`);
  }
  throw new UnusableFile(`--keys: ${path} is not a key set, such as audit keys prints`);
}

const isKeySet = (value: unknown): value is JSONWebKeySet =>
  typeof value === "object" && value !== null && "keys" in value && Array.isArray(value.keys);

async function readCheckpoints(
  { checkpoints }: VerifyOptions,
  verify: (jws: string) => Promise<Checkpoint>,
): Promise<Checkpoint[]> {
  if (checkpoints === undefined) return [];
  try {
    return await checkpointsIn(linesOf([checkpoints]), verify);
  } catch (error) {
    if (!(error instanceof InvalidCheckpoint)) throw error;
    throw new UnusableFile(`--checkpoints: in ${checkpoints}: ${error.message}`);
  }
}

/** The lines of JSON Lines files, one file after another. */
async function* linesOf(paths: readonly string[]): AsyncGenerator<ExportedLine> {
  for (const path of paths) {
    let number = 0;
    try {
      for await (const line of createInterface({ input: createReadStream(path) })) {
        number++;
        if (line !== "") yield { place: `${path}:${number}`, value: parsed(line) };
      }
    } catch (error) {
      throw error instanceof InvalidCheckpoint
        ? error
        : new UnusableFile(`cannot read ${path}: ${systemReason(error)}`);
    }
  }
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

function report({ out, json }: VerifyOptions, found: Verification): number {
  const ok = found.findings.length === 0;
  if (json) out(`${JSON.stringify(document(found))}\n`);
  else out([...found.findings.map(({ message }) => message), ...summary(found), ""].join("\n"));
  return ok ? 0 : 1;
}

function summary(found: Verification): string[] {
  const { findings, verified, batches, last, pending, before, since, floor } = found;
  const chained = `${verified} events in ${batches} batches are as they were recorded`;
  return [
    last ? `${chained}, up to batch ${last.number} of ${last.time.toISOString()}` : chained,
    ...(pending > 0 ? [`${pending} events are not in the chain yet`] : []),
    ...(before > 0 && since
      ? [`${before} events from before ${since.toISOString()}, when the chain began, cannot be verified`]
      : []),
    ...(floor ? [`events from before ${floor.before.toISOString()} have expired`] : []),
    ...(last ? [] : ["there is no chain: no replica of this version has run yet, or it was removed"]),
    findings.length === 0
      ? "no problem was found"
      : findings.length < mostFindings
        ? `${findings.length} problems were found`
        : `at least ${findings.length} problems were found`,
  ];
}

function document({ findings, verified, batches, last, pending, before, since, floor }: Verification) {
  return {
    ok: findings.length === 0,
    ...{ verified, batches, pending, before },
    last: last && { batch: last.number, time: last.time, hash: last.hash },
    since,
    expired_before: floor?.before,
    problems: findings,
  };
}
