import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { markdown } from "./report/markdown.ts";
import type { Table } from "./report/report.ts";
import type { Target } from "./report/target.ts";
import { aggregation } from "./suites/aggregation.ts";
import { checks } from "./suites/checks.ts";
import { coldPaths } from "./suites/cold-paths.ts";
import { idleMemory } from "./suites/idle-memory.ts";
import { mixedLoad } from "./suites/mixed-load.ts";
import { responsePath } from "./suites/response-path.ts";
import { scale } from "./suites/scale.ts";
import type { Suite } from "./suites/suite.ts";
import { toolsCalls } from "./suites/tools-calls.ts";
import { pinnedCores } from "./world/cores.ts";
import { describeNoise, watchNoise } from "./world/noise.ts";
import { startProcess } from "./world/start-process.ts";
import { startWorld } from "./world/world.ts";

/*
 * Measures what docs/performance.md claims: real processes, loopback only, in bounded time.
 *
 *   node bench/run.ts [--only checks,tools-calls] [--rounds 7] [--write FILE]
 *
 * Leaves `.bench/results.json` and `.bench/table.md`; `--write` puts the table between `<!-- bench -->` and `<!-- /bench -->` in FILE.
 */
const suites: Readonly<Record<string, Suite>> = {
  checks,
  "tools-calls": toolsCalls,
  "response-path": responsePath,
  "cold-paths": coldPaths,
  "mixed-load": mixedLoad,
  aggregation,
  scale,
  "idle-memory": idleMemory,
};
const { values } = parseArgs({
  options: {
    only: { type: "string", default: Object.keys(suites).join(",") },
    rounds: { type: "string", default: "7" },
    write: { type: "string" },
  },
});
if (values.write !== undefined && values.only !== Object.keys(suites).join(","))
  throw new Error("--write replaces the tables of all suites: leave out --only");
const startedAt = performance.now();
const noise = watchNoise();
const progress = (line: string) =>
  console.error(`${((performance.now() - startedAt) / 1000).toFixed(0).padStart(4)} s  ${line}`);

const cores = pinnedCores();
const folder = join(import.meta.dirname, "../.bench");
mkdirSync(folder, { recursive: true });
const upstream = await startProcess({
  name: "upstream",
  command: [process.execPath, join(import.meta.dirname, "servers/upstream.ts")],
  folder,
  core: cores.rest,
  ready: /ready \S+/,
});
const upstreamUrl = /ready (\S+)/.exec(upstream.log())?.[1] ?? "";
const world = await startWorld(upstreamUrl);
const tables: Table[] = [];
const targets: Target[] = [];
try {
  for (const name of values.only.split(",")) {
    const suite = suites[name];
    if (!suite) throw new Error(`there is no suite ${name}; there are ${Object.keys(suites).join(", ")}`);
    progress(name);
    // What the others have measured is not lost.
    const result = await suite({
      world,
      cores,
      upstream: upstreamUrl,
      rounds: Number(values.rounds),
      progress,
    }).catch((error: Error) => {
      process.exitCode = 1;
      progress(error.message);
      return { tables: [{ title: name, note: "Failed.", lines: [] }], targets: [] };
    });
    tables.push(...result.tables);
    targets.push(...result.targets);
  }
} finally {
  await world.close();
  await upstream.stop();
}

const [cpu] = cpus();
const took = Math.round((performance.now() - startedAt) / 1000);
const machine = `${cpus().length} × ${cpu?.model ?? "?"}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux, Node ${process.version}; ${
  cores.measured === undefined
    ? "processes not pinned"
    : `what is measured on core ${cores.measured}, load generator, Envoy, upstream and Postgres on core ${cores.rest}`
}. ${describeNoise(noise())} ${new Date().toISOString().slice(0, 10)}, ${took} s.`;
const table = markdown({ tables, targets }, machine);
writeFileSync(join(folder, "results.json"), JSON.stringify({ machine, targets, tables }, null, 2));
writeFileSync(join(folder, "table.md"), table);
console.log(table);
if (values.write !== undefined) {
  const text = readFileSync(values.write, "utf8");
  const [open, close] = ["<!-- bench -->", "<!-- /bench -->"];
  const [start, end] = [text.indexOf(open), text.indexOf(close)];
  if (start < 0 || end < start) throw new Error(`${values.write} has no ${open} ... ${close}`);
  writeFileSync(values.write, `${text.slice(0, start + open.length)}\n\n${table}\n${text.slice(end)}`);
}
const errors = tables.flatMap(({ lines }) => lines.filter(({ figures }) => Number(figures.errors ?? 0) > 0));
if (errors.length > 0) {
  console.error(`wrong answers or none: ${errors.map(({ name }) => name).join("; ")}`);
  process.exitCode = 1;
}
