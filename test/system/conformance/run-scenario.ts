import { execFile } from "node:child_process";
import { globSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { type Scenario, suite } from "./scenario.ts";

/** The suite's verdict on one run. */
export interface Verdict {
  readonly ok: boolean;
  /** One line per failed check or warning, `id: description`; or another error. */
  readonly problems: readonly string[];
  readonly failedChecks: readonly string[];
  readonly milliseconds: number;
}

const checks = z.array(
  z.object({
    id: z.string(),
    status: z.string(),
    description: z.string().optional(),
    errorMessage: z.string().optional(),
  }),
);

/** Runs one scenario of the suite with our client command; the suite checks what arrived at its servers. */
export async function runScenario(
  scenario: Scenario,
  options: { gateway: string; output: string },
): Promise<Verdict> {
  const start = performance.now();
  const client = join(import.meta.dirname, "client.ts");
  const revision = scenario.revision === "extension" ? [] : ["--spec-version", scenario.revision];
  const { code, output } = await run(
    [
      join(suite, "dist", "index.js"),
      "client",
      ...["--command", `${process.execPath} ${client}`],
      ...["--scenario", scenario.name],
      ...["--output-dir", options.output],
      ...["--timeout", "45000"],
      ...revision,
    ],
    options.gateway,
  );
  await writeFile(join(options.output, "suite.log"), output);
  const [file] = globSync(join(options.output, "**", "checks.json"));
  const found = file ? checks.parse(JSON.parse(await readFile(file, "utf8"))) : [];
  // The suite counts warnings as failures.
  const bad = found.filter((check) => check.status === "FAILURE" || check.status === "WARNING");
  const problems = bad.map(
    (check) => `${check.id}: ${check.errorMessage ?? check.description ?? check.status}`,
  );
  if (code !== 0 && bad.length === 0) problems.push(`the client failed: ${lastWords(output)}`);
  if (!file) problems.push("the suite wrote no checks");
  return {
    ok: code === 0 && problems.length === 0,
    problems,
    failedChecks: bad.map((check) => check.id),
    milliseconds: performance.now() - start,
  };
}

function run(args: readonly string[], gateway: string): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      args,
      { env: { ...process.env, CONFORMANCE_GATEWAY: gateway }, maxBuffer: 64 * 1024 * 1024 },
      (error, stdout, stderr) =>
        resolve({ code: error ? (child.exitCode ?? 1) : 0, output: stdout + stderr }),
    );
  });
}

/** Our client's last output, from the suite's report. */
function lastWords(output: string): string {
  const report = /Stdout:\n([\s\S]*?)\n(?:Stderr|Results saved|Checks:)/.exec(output)?.[1] ?? output;
  return report.trim().split("\n").slice(-2).join(" | ").slice(0, 400);
}
