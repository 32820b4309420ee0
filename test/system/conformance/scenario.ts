import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { z } from "zod";

/** One run of a scenario, with one revision's wire format. */
export interface Scenario {
  readonly name: string;
  /** `extension`: the suite has no revision for it and uses its default. */
  readonly revision: string;
}

/** Directory of the installed suite. */
export const suite = dirname(
  dirname(fileURLToPath(import.meta.resolve("@modelcontextprotocol/conformance/dist/index.js"))),
);

const requirements = z.object({
  client: z.array(z.string()),
  not_scored: z.array(z.object({ scenario: z.string(), leg: z.string(), reason: z.string() })),
});

/**
 * The scenarios for our OAuth client: every `auth/` scenario that the two revisions require, the two of 2025-03-26 that later
 * revisions dropped, and the extensions.
 */
export function scenarios(): readonly Scenario[] {
  const runs: Scenario[] = [];
  const extensions = new Set<string>();
  for (const revision of ["2026-07-28", "2025-11-25"]) {
    const file = join(suite, "requirements", `${revision}.yaml`);
    const set = requirements.parse(parse(readFileSync(file, "utf8")));
    for (const name of set.client) if (name.startsWith("auth/")) runs.push({ name, revision });
    for (const { scenario, reason } of set.not_scored) {
      if (scenario.startsWith("auth/") && reason === "extension") extensions.add(scenario);
    }
  }
  for (const name of [
    "auth/2025-03-26-oauth-metadata-backcompat",
    "auth/2025-03-26-oauth-endpoint-fallback",
  ]) {
    runs.push({ name, revision: "2025-03-26" });
  }
  for (const name of extensions) runs.push({ name, revision: "extension" });
  return runs;
}
