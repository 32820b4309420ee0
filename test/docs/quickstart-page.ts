import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { expect, onTestFinished } from "vitest";
import { freePort } from "../../dev/demo/free-port.ts";
import { envoyBinary } from "../../envoy/envoy-binary.ts";

const root = join(import.meta.dirname, "../..");
/** The page's fixed ports; other tests on this machine may be using them. */
const ports = ["8443", "9090", "8080", "50051", "3001"];

/** The `sh` blocks of a page, or of its section with this title. */
export function shellBlocks(page: string, title?: string): string[] {
  const whole = readFileSync(join(root, "docs", page), "utf8");
  const part = title === undefined ? whole : whole.split(/^## /m).find((one) => one.startsWith(`${title}\n`));
  return [...(part ?? "").matchAll(/^```sh\n(.*?)^```$/gms)].map(([, block]) => block ?? "");
}

/**
 * Runs all blocks of docs/quickstart.md in one shell, in an empty folder.
 * @param command what `envoy-mcp-auth` runs
 * @param options.before runs in that shell first; installs the command, if `command` is absent
 */
export async function runQuickstart(
  command: readonly string[] | undefined,
  { before = "" }: { readonly before?: string } = {},
): Promise<void> {
  const blocks = shellBlocks("quickstart.md");
  expect(blocks.length).toBeGreaterThan(7);
  let script = [
    "set -eu -o pipefail",
    ...blocks.map((block, index) => `echo "## block ${index + 1}"\n${block}`),
  ].join("\n");
  // The page uses the default listeners; this test needs free ports.
  script = script.replace(
    "listen: { envoy_secret:",
    'listen: { grpc: "127.0.0.1:50051", http: "127.0.0.1:8080", admin: "127.0.0.1:9090", envoy_secret:',
  );
  for (const port of ports)
    script = script.replaceAll(new RegExp(`(?<=[:.])${port}\\b`, "g"), String(await freePort()));

  const folder = await mkdtemp(join(tmpdir(), "quickstart-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  if (command) write(join(folder, "envoy-mcp-auth"), `exec ${command.join(" ")} "$@"`);
  write(join(folder, "envoy"), `exec ${await envoyBinary()} --disable-hot-restart "$@"`);
  const { DATABASE_URL: _url, ...env } = process.env;
  const shell = spawn("bash", ["-c", `${before}\n${script}`], {
    cwd: folder,
    env: { ...env, PATH: `${folder}:${process.env.PATH}` },
    detached: true,
  });
  onTestFinished(() => stop(shell));
  const [code, out, err] = await Promise.all([
    new Promise<number | null>((resolve) => shell.once("exit", resolve)),
    text(shell.stdout),
    text(shell.stderr),
  ]);
  expect([code, code === 0 ? "" : `${out}\n${err}`]).toEqual([0, ""]);
  expect(out).toContain('"route.created"');
}

function write(file: string, line: string): void {
  writeFileSync(file, `#!/bin/sh\n${line}\n`);
  chmodSync(file, 0o755);
}

/** Stops what a failed block has left running. */
function stop({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // All gone already.
  }
}
