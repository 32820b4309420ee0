import { readFileSync, statSync, writeFileSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { freePort } from "../../../dev/demo/free-port.ts";
import { runProgram } from "../../../dev/demo/sidecar.ts";
import { memoryOfContainer } from "../../../src/util/container-memory.ts";
import { heapFlags } from "../../../src/workers/heap-shape.ts";
import { type E2e, startE2e } from "../../support/e2e.ts";
import { pingThroughEnvoy } from "../../support/ping-through-envoy.ts";
import { createTestDatabase } from "../../support/postgres.ts";
import { throughEnvoy } from "../../support/through-envoy.ts";

const timeout = 60_000;

/** A free port after which comes another one. */
async function twoFreePorts(): Promise<number> {
  const first = await freePort();
  const second = await freePort();
  return Math.abs(first - second) === 1 ? Math.min(first, second) : twoFreePorts();
}

describe("one command that serves with two workers, through a real Envoy and a real Postgres", () => {
  let stack: E2e;
  let database: Awaited<ReturnType<typeof createTestDatabase>>;
  let folder: string;
  let port: number;

  beforeAll(async () => {
    database = await createTestDatabase({ empty: true });
    port = await twoFreePorts();
    folder = await mkdtemp(join(tmpdir(), "workers-"));
    // One listener of each kind.
    const listen = { grpc: `unix:${join(folder, "grpc.sock")}`, http: `127.0.0.1:${port}` };
    stack = await startE2e({
      folder,
      env: { DATABASE_URL: database.url },
      config: (config) => ({
        ...config,
        workers: 2,
        listen: { ...Object(config.listen), ...listen },
        log: { level: "debug" },
      }),
    });
  });
  afterAll(async () => {
    await stack?.close();
    await database?.close();
  });

  const lines = (): Record<string, unknown>[] =>
    readFileSync(stack.sidecar().logFile, "utf8")
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line));
  const count = (msg: string) => lines().filter((line) => line.msg === msg).length;
  const logged = (msg: string, times = 1) =>
    expect.poll(() => count(msg), { timeout }).toBeGreaterThanOrEqual(times);
  const pidOf = (worker: number) =>
    Number(lines().findLast((line) => line.msg === "a worker is ready" && line.worker === worker)?.pid);
  const checkedBy = (worker: number) =>
    lines().filter((line) => line.msg === "request allowed" && line.worker === worker).length;
  const scrape = async () => (await fetch(`${stack.adminUrl}/metrics`)).text();
  const call = (token: string) => pingThroughEnvoy(stack, stack.urls.open, token);
  const allowed = async () => {
    const counts = (await scrape()).matchAll(/^envoy_mcp_auth_checks_total\{decision="allow",.*\} (\d+)$/gm);
    return [...counts].reduce((sum, [, each]) => sum + Number(each), 0);
  };

  /** Calls of eight clients, on both listeners, until `until` resolves. @returns the statuses other than 200 */
  async function failuresUntil(token: string, until: Promise<unknown>): Promise<number[]> {
    const statuses: number[] = [];
    let going = true;
    const metadata = "https://open.test/.well-known/oauth-protected-resource";
    const callers = Array.from({ length: 8 }, async (_, index) => {
      while (going) {
        const { status } = await (index % 4 ? call(token) : throughEnvoy(stack, { url: metadata }));
        statuses.push(status);
      }
    });
    await until.finally(() => {
      going = false;
    });
    await Promise.all(callers);
    expect(statuses.length).toBeGreaterThan(20);
    return statuses.filter((status) => status !== 200);
  }

  it("the first worker migrates the database before the others start", async () => {
    await logged("all workers are ready");
    const order = lines().map(({ msg, worker }) => `${msg} ${worker ?? ""}`.trim());
    expect(order.filter((line) => /migrated|is ready/.test(line))).toEqual([
      "the database was migrated 1",
      "a worker is ready 1",
      "a worker is ready 2",
    ]);
  });

  it("each worker has a heap for its share of the memory", () => {
    const shares = [1, 2].map((worker) => readFileSync(`/proc/${pidOf(worker)}/cmdline`, "utf8").split("\0"));
    const memoryBytes = memoryOfContainer();
    for (const args of shares) {
      const wanted = heapFlags({ memoryBytes, workers: 2 });
      expect(args.filter((arg) => wanted.some((flag) => flag.split("=")[0] === arg.split("=")[0]))).toEqual(
        wanted,
      );
    }
  });

  it("the sockets of all workers have the permissions of the setting", () => {
    for (const name of ["grpc.sock", "grpc.2.sock"])
      expect(statSync(join(folder, name)).mode & 0o777, name).toBe(0o660);
  });

  it("a second command whose worker would use a port of the first ends with the reason", async () => {
    const others = ["--listen-grpc", `unix:${join(folder, "other.sock")}`];
    const http = ["--listen-http", `127.0.0.1:${port - 1}`];
    const admin = ["--listen-admin", `127.0.0.1:${await freePort()}`];
    const args = ["serve", "--config", stack.configFile, ...others, ...http, ...admin];
    await expect(runProgram(undefined, args, { ...process.env, DATABASE_URL: database.url })).rejects.toThrow(
      `listen.http: cannot listen on 127.0.0.1:${port}: address already in use (EADDRINUSE)`,
    );
    expect((await fetch(`${stack.adminUrl}/readyz`)).status).toBe(200);
  });

  it("all workers check, and one port has the metrics of all of them", async () => {
    const token = await stack.externalToken("alice", stack.urls.open);
    const checkedBefore = [1, 2].map(checkedBy);
    for (let times = 0; times < 40; times++) expect((await call(token)).status).toBe(200);
    const checked = [1, 2].map((worker, index) => checkedBy(worker) - (checkedBefore[index] ?? 0));
    expect(Math.min(...checked)).toBeGreaterThan(10);
    await expect.poll(async () => (await allowed()) - checkedBy(1) - checkedBy(2), { timeout }).toBe(0);
    const text = await scrape();
    expect(text).toMatch(/^envoy_mcp_auth_workers\{state="ready"\} 2$/m);
    expect(text).toMatch(/^envoy_mcp_auth_store_listener_up 1$/m);
    for (const worker of ["1", "2", "supervisor"])
      expect(text).toMatch(new RegExp(`^process_resident_memory_bytes\\{worker="${worker}"\\} \\d+$`, "m"));
  });

  it("a rolling restart loses no request", async () => {
    const token = await stack.externalToken("bob", stack.urls.open);
    const before = await allowed();
    const pids = [pidOf(1), pidOf(2)];
    stack.sidecar().kill("SIGHUP");
    expect(await failuresUntil(token, logged("rolling restart finished"))).toEqual([]);
    expect(pids).not.toContain(pidOf(1));
    expect(pids).not.toContain(pidOf(2));
    // What the former workers counted still counts.
    expect(await allowed()).toBeGreaterThan(before + 20);
    expect(count("ready")).toBe(4);
  });

  it("a killed worker costs at most the calls under way, and is started again", async () => {
    const token = await stack.externalToken("alice", stack.urls.open);
    const known = count("a worker is ready");
    process.kill(pidOf(2), "SIGKILL");
    const failures = await failuresUntil(token, logged("a worker is ready", known + 1));
    expect(failures.length).toBeLessThanOrEqual(8);
    expect(await scrape()).toMatch(/^envoy_mcp_auth_worker_restarts_total\{reason="ended"\} 1$/m);
    const before = checkedBy(2);
    const checkedAgain = async () => {
      await call(token);
      return checkedBy(2);
    };
    await expect.poll(checkedAgain, { timeout }).toBeGreaterThan(before + 5);
  });

  it("a worker that is killed while it is replaced leaves no further process, and its socket stays", async () => {
    const rolling = count("rolling restart");
    const restarted = count("rolling restart finished");
    const killed = pidOf(1);
    stack.sidecar().kill("SIGHUP");
    await logged("rolling restart", rolling + 1);
    process.kill(killed, "SIGKILL");
    await logged("rolling restart finished", restarted + 1);
    const supervisor = stack.sidecar().pid;
    const children = readFileSync(`/proc/${supervisor}/task/${supervisor}/children`, "utf8");
    // Without the shell that ends the program with the test.
    const workers = children
      .trim()
      .split(" ")
      .filter((pid) => !readFileSync(`/proc/${pid}/cmdline`, "utf8").startsWith("/bin/sh"));
    expect(workers.map(Number).sort()).toEqual([pidOf(1), pidOf(2)].sort());
    expect(statSync(join(folder, "grpc.sock")).isSocket()).toBe(true);
    const token = await stack.externalToken("alice", stack.urls.open);
    const before = checkedBy(1);
    const checkedAgain = async () => {
      await call(token);
      return checkedBy(1);
    };
    await expect.poll(checkedAgain, { timeout }).toBeGreaterThan(before + 5);
  });

  it("a rolling restart with an invalid file replaces nothing", async () => {
    const pids = [pidOf(1), pidOf(2)];
    const valid = readFileSync(stack.configFile, "utf8");
    writeFileSync(stack.configFile, `${valid}\nworkers: none\n`);
    stack.sidecar().kill("SIGHUP");
    await logged("no rolling restart: the configuration is invalid");
    writeFileSync(stack.configFile, valid);
    expect([pidOf(1), pidOf(2)]).toEqual(pids);
    expect((await fetch(`${stack.adminUrl}/readyz`)).status).toBe(200);
  });

  it("SIGTERM drains all workers", async () => {
    const sidecar = stack.sidecar();
    sidecar.kill("SIGTERM");
    expect(await sidecar.exited).toEqual({ code: 0, signal: null });
    expect(count("stopped")).toBeGreaterThanOrEqual(4);
  });
});
