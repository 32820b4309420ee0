import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { freePort } from "../../../dev/demo/free-port.ts";
import { type Sidecar, sidecar } from "../../../dev/demo/sidecar.ts";
import { type E2e, startE2e } from "../../support/e2e.ts";
import { pingThroughEnvoy } from "../../support/ping-through-envoy.ts";
import { createTestDatabase } from "../../support/postgres.ts";
import { throughEnvoy } from "../../support/through-envoy.ts";

describe("several processes on one machine, each with its own Unix sockets", () => {
  let database: Awaited<ReturnType<typeof createTestDatabase>>;
  let stack: E2e;
  let second: Sidecar;
  let startSecond: () => Promise<Sidecar>;
  let secondAdmin: string;

  beforeAll(async () => {
    database = await createTestDatabase();
    const folder = await mkdtemp(join(tmpdir(), "processes-"));
    const socket = (name: string) => `unix:${join(folder, name)}`;
    const env = { DATABASE_URL: database.url };
    stack = await startE2e({
      folder,
      env,
      config: (config) => ({
        ...config,
        listen: { ...Object(config.listen), grpc: socket("one.grpc"), http: socket("one.http") },
        envoy: {
          ...Object(config.envoy),
          sidecar: {
            grpc: [socket("one.grpc"), socket("two.grpc")],
            http: [socket("one.http"), socket("two.http")],
          },
        },
      }),
    });
    secondAdmin = `127.0.0.1:${await freePort()}`;
    startSecond = () =>
      sidecar({
        configFile: stack.configFile,
        logFile: join(folder, "second.log"),
        env,
        args: [
          ...["--listen-grpc", socket("two.grpc")],
          ...["--listen-http", socket("two.http")],
          ...["--listen-admin", secondAdmin],
        ],
      });
    second = await startSecond();
  });
  afterAll(async () => {
    await second?.close();
    await stack?.close();
    await database?.close();
  });

  const call = (token: string) => pingThroughEnvoy(stack, stack.urls.open, token);
  const allowed = async (admin: string): Promise<number> => {
    const text = await (await fetch(`${admin}/metrics`)).text();
    const counts = [...text.matchAll(/^envoy_mcp_auth_checks_total\{decision="allow".*\} (\d+)$/gm)];
    return counts.reduce((sum, [, count]) => sum + Number(count), 0);
  };

  it("Envoy balances checks among them, and continues with one when the other is gone", async () => {
    // Authorization and sign-in work with any process that Envoy selects.
    const token = await stack.externalToken("alice", stack.urls.open);
    const share = async () => {
      for (let count = 0; count < 10; count++) expect((await call(token)).status).toBe(200);
      return Math.min(await allowed(stack.adminUrl), await allowed(`http://${secondAdmin}`));
    };
    await expect.poll(share, { timeout: 60_000 }).toBeGreaterThan(0);

    second.kill("SIGKILL");
    await second.exited;
    // A call in progress may be lost; Envoy notices and uses the remaining one.
    await expect.poll(async () => (await call(token)).status, { timeout: 60_000 }).toBe(200);
    for (let count = 0; count < 20; count++) expect((await call(token)).status).toBe(200);
  });

  it("no request is lost on either listener when one process restarts, twice", async () => {
    const token = await stack.externalToken("bob", stack.urls.open);
    second = await startSecond();
    const metadata = "https://open.test/.well-known/oauth-protected-resource";
    const answers: number[] = [];
    let restarting = true;
    const callers = Array.from({ length: 8 }, async (_, index) => {
      while (restarting) {
        const answer = await (index % 2 ? call(token) : throughEnvoy(stack, { url: metadata }));
        answers.push(answer.status);
      }
    });
    for (let restart = 0; restart < 2; restart++) {
      await second.close();
      second = await startSecond();
      await expect.poll(() => allowed(`http://${secondAdmin}`), { timeout: 60_000 }).toBeGreaterThan(0);
    }
    restarting = false;
    await Promise.all(callers);
    expect(answers.filter((status) => status !== 200)).toEqual([]);
  });
});
