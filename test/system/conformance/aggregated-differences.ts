import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { parse } from "yaml";
import { z } from "zod";

const list = z.array(
  z.strictObject({
    scenario: z.string(),
    /** Absent: all revisions. */
    revision: z.string().optional(),
    /** Hosts of the aggregated routes. */
    routes: z.array(z.string()).min(1),
    reason: z.string().min(20),
  }),
);

/** The server scenarios that differ on aggregated routes: `aggregated-differences.yaml`. */
export async function aggregatedDifferences() {
  const file = join(import.meta.dirname, "aggregated-differences.yaml");
  const entries = list.parse(parse(await readFile(file, "utf8")));
  return {
    file,
    /** Undefined: the result must not differ. */
    reasonFor: (host: string, scenario: string, revision: string): string | undefined =>
      entries.find(
        (one) =>
          one.scenario === scenario && (one.revision ?? revision) === revision && one.routes.includes(host),
      )?.reason,
  };
}
