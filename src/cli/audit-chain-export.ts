import { createReadStream, fstatSync, fsyncSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { type AuditFormat, exportBatches, exportedRecords } from "../audit-trail/export-trail.ts";
import { withStore } from "./command.ts";
import { untilInterrupted } from "./interruption.ts";
import type { ListingOptions } from "./listing.ts";

/** How often `--follow` looks for new events, ms. */
const followEveryMs = 2_000;

/**
 * The command `audit export` with `--checkpoints`, `--follow` or `--output`: prints events in the order of the chain, with checkpoints.
 * @param options.output a file to append to, after the last complete batch in it
 * @returns the exit code
 */
export function runAuditChainExport(
  options: Omit<ListingOptions, "json"> & {
    readonly follow: boolean;
    readonly output?: string;
    readonly format: AuditFormat;
  },
): Promise<number> {
  const { follow, output, format } = options;
  return withStore(options, async ({ store, config }) => {
    const target = output === undefined ? toStandardOutput(options) : await toFile(output);
    await untilInterrupted(async (signal) => {
      for (let { after } = target; !signal.aborted; ) {
        for await (const exported of exportBatches(store.auditTrail, after)) {
          after = exported.batch.number;
          const lines = exportedRecords(exported, format, config.issuer).map(
            (record) => `${JSON.stringify(record)}\n`,
          );
          if (!(await target.write(lines.join(""))) || signal.aborted) return;
        }
        if (!follow) return;
        await delay(followEveryMs, undefined, { signal }).catch(() => {});
      }
    });
    return 0;
  });
}

interface Target {
  /** The last batch that it has. */
  readonly after: number;
  /** @returns false: nobody reads it any more */
  write(text: string): Promise<boolean>;
}

const toStandardOutput = ({ out, drained }: Pick<ListingOptions, "out" | "drained">): Target => ({
  after: 0,
  write(text) {
    out(text);
    return drained();
  },
});

/** Continues a file: what follows its last checkpoint is an incomplete batch, and is written again. */
async function toFile(path: string): Promise<Target> {
  const file = openSync(path, "a+", 0o600);
  const written = fstatSync(file).size;
  let [after, size, complete] = [0, 0, 0];
  for await (const line of createInterface({
    input: createReadStream(path),
    crlfDelay: Number.POSITIVE_INFINITY,
  })) {
    size += Buffer.byteLength(line) + 1;
    const number = checkpointNumber(line);
    // The last line of an interrupted export may lack its end.
    if (number !== undefined && size <= written) [after, complete] = [number, size];
  }
  ftruncateSync(file, complete);
  return {
    after,
    async write(text) {
      writeSync(file, text);
      fsyncSync(file);
      return true;
    },
  };
}

function checkpointNumber(line: string): number | undefined {
  if (!line.startsWith('{"checkpoint":')) return undefined;
  try {
    const value: { checkpoint?: unknown } = JSON.parse(line);
    return typeof value.checkpoint === "number" ? value.checkpoint : undefined;
  } catch {
    return undefined;
  }
}
