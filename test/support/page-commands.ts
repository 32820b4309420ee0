import { spawn } from "node:child_process";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** Replaces each text, in order. */
export const replaceAll = (text: string, places: readonly (readonly [string, string])[]) =>
  places.reduce((changed, [from, to]) => changed.replaceAll(from, to), text);

/** Makes a command of a shell line. */
export function command(file: string, line: string): void {
  writeFileSync(file, `#!/bin/sh\n${line}\n`);
  chmodSync(file, 0o755);
}

/** What a script prints when everything that it has started is up; it must then wait. */
export const upLine = "everything runs";

/**
 * Runs a page's commands in a folder, which is first on the path. Resolves when the script prints `upLine`, with a function that ends
 * everything that it has started.
 * @param env in addition to this process's, without its database
 * @throws Error with the output if the script ends earlier
 */
export async function runCommands(
  folder: string,
  script: string,
  env: Readonly<Record<string, string>>,
): Promise<() => void> {
  const { DATABASE_URL: _url, ...inherited } = process.env;
  // A file, because every process can read arguments, and the script may have secrets.
  const file = join(folder, "commands.sh");
  writeFileSync(file, script, { mode: 0o600 });
  const shell = spawn("bash", [file], {
    cwd: folder,
    env: { ...inherited, PATH: `${folder}:${process.env.PATH}`, ...env },
    detached: true,
  });
  const stop = () => {
    try {
      process.kill(-(shell.pid ?? 0), "SIGKILL");
    } catch {
      // All gone already.
    }
  };
  let said = "";
  shell.stderr.on("data", (chunk: Buffer) => {
    said += chunk.toString();
  });
  const ended = new Promise<never>((_resolve, reject) => {
    shell.once("exit", (code) => reject(new Error(`the commands ended with ${code}:\n${said}`)));
  });
  const up = new Promise<void>((resolve) => {
    createInterface(shell.stdout).on("line", (line) => {
      said += `${line}\n`;
      if (line === upLine) resolve();
    });
  });
  try {
    await Promise.race([up, ended]);
  } catch (error) {
    stop();
    throw error;
  }
  return stop;
}
