import { spawnSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Program } from "../../dev/demo/sidecar.ts";

/** One start of Node.js. */
interface Start {
  readonly pid: number;
  readonly execArgv: readonly string[];
  readonly args: readonly string[];
  /** Bytes. */
  readonly heapLimit: number;
}

/**
 * Runs a command of the program to its end.
 * @param options.options more `NODE_OPTIONS`
 * @returns with which flags Node.js was started, each time that it was
 */
export function startedWith(
  folder: string,
  [executable, ...first]: Program,
  args: readonly string[],
  { options = "" }: { readonly options?: string } = {},
): { readonly starts: readonly Start[]; readonly status: number | null; readonly stderr: string } {
  const record = join(folder, "starts");
  const recorder = join(folder, "recorder.mjs");
  rmSync(record, { force: true });
  writeFileSync(
    recorder,
    `import { appendFileSync } from "node:fs";
import { getHeapStatistics } from "node:v8";
const { pid, execArgv, argv } = process;
const heapLimit = getHeapStatistics().heap_size_limit;
appendFileSync(${JSON.stringify(record)}, JSON.stringify({ pid, execArgv, args: argv.slice(2), heapLimit }) + "\\n");
`,
  );
  const { status, stderr } = spawnSync(executable, [...first, ...args], {
    cwd: folder,
    encoding: "utf8",
    env: { ...process.env, NODE_OPTIONS: `--import ${recorder} ${options}` },
  });
  const lines = readFileSync(record, "utf8").trim().split("\n");
  return { starts: lines.map((line): Start => JSON.parse(line)), status, stderr };
}
