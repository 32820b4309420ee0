import { execFile } from "node:child_process";
import { globSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { z } from "zod";
import { suite } from "./scenario.ts";

/** Outcomes of a scenario's checks, `id: STATUS`, sorted; without INFO, which is not a result. */
export type Outcomes = readonly string[];

const checks = z.array(z.object({ id: z.string(), status: z.string() }));

/** Runs all server scenarios of a revision against `url`; the suite writes into `folder`. */
export async function serverSuite(
  url: string,
  revision: string,
  folder: string,
): Promise<ReadonlyMap<string, Outcomes>> {
  await mkdir(folder, { recursive: true });
  const output = await new Promise<string>((resolve) => {
    execFile(
      process.execPath,
      [
        join(suite, "dist", "index.js"),
        "server",
        ...["--url", url],
        ...["--requirements", revision],
        ...["--output-dir", folder],
      ],
      { maxBuffer: 64 * 1024 * 1024 },
      // The checks are more detailed than the exit code.
      (_error, stdout, stderr) => resolve(stdout + stderr),
    );
  });
  await writeFile(join(folder, "suite.log"), output);
  const outcomes = new Map<string, Outcomes>();
  for (const file of globSync(join(folder, "*", "checks.json"))) {
    const name = basename(dirname(file)).replace(/^server-|-\d{4}-\d\d-\d\dT.*$/g, "");
    const found = checks.parse(JSON.parse(await readFile(file, "utf8")));
    const judged = found.filter((check) => check.status !== "INFO");
    outcomes.set(name, judged.map((check) => `${check.id}: ${check.status}`).sort());
  }
  return outcomes;
}
