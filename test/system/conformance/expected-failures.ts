import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { parse } from "yaml";
import { z } from "zod";
import type { Verdict } from "./run-scenario.ts";
import type { Scenario } from "./scenario.ts";

const list = z
  .array(
    z.strictObject({
      scenario: z.string(),
      /** Absent: all revisions. */
      revision: z.string().optional(),
      /** Ids of the checks that may fail; other failures of the scenario still count. */
      checks: z.array(z.string()).min(1),
      reason: z.string().min(20),
    }),
  )
  .nullable();

/** The scenarios that a gateway cannot pass, with reasons: `expected-failures.yaml`. */
export async function expectedFailures() {
  const file = join(import.meta.dirname, "expected-failures.yaml");
  const entries = list.parse(parse(await readFile(file, "utf8"))) ?? [];
  return {
    /** Why this may fail; undefined if it must not, or if other checks fail. */
    excuse(scenario: Scenario, verdict: Verdict): string | undefined {
      const entry = entries.find(
        (one) => one.scenario === scenario.name && (one.revision ?? scenario.revision) === scenario.revision,
      );
      const { ok, failedChecks } = verdict;
      // An aborted run, or one that passed for the wrong reason, has no failed check and is never excused.
      const named = failedChecks.length > 0 && failedChecks.every((id) => entry?.checks.includes(id));
      return ok || named ? entry?.reason : undefined;
    },
  };
}
