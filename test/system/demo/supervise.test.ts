import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { supervise } from "../../../dev/demo/supervise.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "supervise-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

function isRunning(pid: number): boolean {
  try {
    return !/\bState:\s+Z/.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

test("a supervised process has the reported id, writes to its log, and stops on request", async () => {
  const logFile = join(folder, "echo.log");
  const child = supervise(process.execPath, ["-e", "console.log(process.pid); setInterval(() => {}, 1e6)"], {
    logFile,
  });
  await expect.poll(() => readFileSync(logFile, "utf8")).toBe(`${child.pid}\n`);
  await child.stop();
  expect(isRunning(child.pid)).toBe(false);
});

test("a supervised process ends when its supervisor is killed without warning", async () => {
  const program = `
    import { supervise } from ${JSON.stringify(join(import.meta.dirname, "../../../dev/demo/supervise.ts"))};
    const child = supervise("/bin/sleep", ["1000"], { logFile: ${JSON.stringify(join(folder, "sleep.log"))} });
    console.log(child.pid);
    setInterval(() => {}, 1e6);`;
  const parent = spawn(process.execPath, ["--input-type=module", "-e", program], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = await once(parent.stdout, "data");
  const pid = Number(String(line));
  expect(isRunning(pid)).toBe(true);
  parent.kill("SIGKILL");
  await expect.poll(() => isRunning(pid), { timeout: 60_000 }).toBe(false);
});

test("a command that does not exist is reported as ended", async () => {
  const child = supervise("/no/such/command", [], { logFile: join(folder, "missing.log") });
  expect((await child.exited).code).toBe(127);
  expect(execFileSync("cat", [join(folder, "missing.log")], { encoding: "utf8" })).toContain(
    "/no/such/command",
  );
});
