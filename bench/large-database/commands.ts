import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import type { Line, Table } from "../report/report.ts";
import { mostResidentMiB } from "../world/resident.ts";
import type { World } from "../world/world.ts";

const root = join(import.meta.dirname, "../..");

/** What came of one run of `envoy-mcp-auth`. */
export interface CommandRun {
  readonly code: number;
  readonly ms: number;
  /** Until the first byte of output. */
  readonly firstMs: number | undefined;
  readonly lines: number;
  readonly mostMiB: number;
  /** The end of what it wrote to the standard error. */
  readonly error: string;
  /** The end of its output. */
  readonly output: string;
}

/** Runs a command as an operator does, with its output read as it comes. */
export async function runCommand(
  world: Pick<World, "env">,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<CommandRun> {
  const startedAt = performance.now();
  const child = spawn(process.execPath, ["src/main.ts", ...args], {
    cwd: root,
    env: { ...process.env, ...world.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const [output, errors] = [{ text: "", lines: 0 }, { text: "" }];
  let firstMs: number | undefined;
  let mostMiB = 0;
  const sampling = setInterval(() => {
    mostMiB = Math.max(mostMiB, mostResidentMiB(child.pid ?? -1));
  }, 100);
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    firstMs ??= performance.now() - startedAt;
    for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) output.lines++;
    output.text = `${output.text}${text}`.slice(-1_000);
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    errors.text = `${errors.text}${text}`.slice(-500);
  });
  const [code] = await once(child, "close");
  clearInterval(sampling);
  return {
    code: code ?? -1,
    ms: performance.now() - startedAt,
    firstMs,
    lines: output.lines,
    mostMiB,
    error: errors.text.trim(),
    output: output.text,
  };
}

/** The lists and exports of the command line. */
export async function measureCommands(
  world: World,
  file: string,
  userId: string,
  progress: (line: string) => void,
): Promise<Table> {
  const since = new Date(Date.now() - 86_400_000).toISOString();
  const commands = [
    ["connections", "list", "--user", userId],
    ["connections", "list", "--route", "route-9999"],
    ["connections", "list"],
    ["grants", "list", "--user", userId],
    ["grants", "list"],
    ["audit", "export", "--since", since],
  ];
  const lines: Line[] = [];
  for (const command of commands) {
    progress(`command: ${command.join(" ")}`);
    const run = await runCommand(world, [...command, "--config", file]);
    lines.push({
      name: `\`${command.join(" ").replace(userId, "USER").replace(since, "YESTERDAY")}\``,
      figures: {
        "first line ms": run.firstMs ?? "–",
        "ms in total": run.ms,
        lines: run.lines,
        "resident MiB, at most": run.mostMiB,
        outcome: run.code === 0 ? "" : `exit ${run.code}: ${run.error.split("\n")[0]?.slice(0, 100)}`,
      },
    });
  }
  return {
    title: "Commands",
    note: "Each in a process of its own, whose start is included; the output is read as it comes.",
    lines,
  };
}
