import { faultTable } from "./fault-table.ts";
import { runFaults } from "./run-faults.ts";

/** `make faults`: the whole suite; `--short` for the faults of the tests; names (or parts of them) to select faults. */
const args = process.argv.slice(2);
const only = args.filter((arg) => !arg.startsWith("--"));
const startedAt = Date.now();
const { results, strangeCredentials, notRun } = await runFaults({
  short: args.includes("--short"),
  only: only.length > 0 ? only : undefined,
  progress: (line) =>
    process.stderr.write(`${((Date.now() - startedAt) / 1000).toFixed(1).padStart(6)} s  ${line}\n`),
});
const { text, failures } = faultTable(results, strangeCredentials, { timed: true, notRun });
process.stdout.write(`${text}\n`);
process.exit(failures.length > 0 ? 1 : 0);
