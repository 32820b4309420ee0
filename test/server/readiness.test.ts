import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Koa from "koa";
import { Client } from "undici";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { type Sidecar, serve } from "../../src/serve.ts";
import { healthSpreadMs } from "../../src/server/grpc/health.ts";
import { createReadiness } from "../../src/server/http/readiness.ts";
import { createTestDatabase } from "../support/postgres.ts";

describe("the public listener while draining", () => {
  let folder: string;
  let sidecar: Sidecar;
  let database: Awaited<ReturnType<typeof createTestDatabase>>;
  const clients: Client[] = [];
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "door-"));
    const anyPort = "127.0.0.1:0";
    const config = {
      issuer: "https://auth.test",
      listen: { grpc: anyPort, http: anyPort, admin: anyPort, grpc_authentication: "none" },
      sign_in: { providers: [{ issuer: "https://id.test", client_id: "c" }] },
      policy: { allow: { or: [{ accept: true }] } },
      routes: [{ id: "a", from: "https://a.test", to: "http://127.0.0.1:1", mcp: {} }],
      log: { level: "error" },
    };
    const file = join(folder, "routes.yaml");
    await writeFile(file, stringify(config), { mode: 0o600 });
    database = await createTestDatabase();
    const env = { DATABASE_URL: database.url, ENCRYPTION_KEY: Buffer.alloc(32, 1).toString("base64url") };
    sidecar = await serve({ file, env });
  });
  afterEach(async () => {
    await Promise.all(clients.splice(0).map((client) => client.destroy()));
    await sidecar?.close().catch(() => {});
    await database?.close();
    await rm(folder, { recursive: true, force: true });
  });

  /** A load balancer's connection. */
  function peer() {
    const client = new Client(`http://${sidecar.http}`);
    clients.push(client);
    return async (host: string, path: string) => {
      const { statusCode, headers, body } = await client.request({ method: "GET", path, headers: { host } });
      await body.dump();
      return [statusCode, headers.connection];
    };
  }
  const metadata = ["a.test", "/.well-known/oauth-protected-resource"] as const;

  it("reports it to load balancers that poll, and keeps serving until they have noticed and reacted", async () => {
    const [balancer, other] = [peer(), peer()];
    expect(await balancer("health", "/readyz")).toEqual([200, "keep-alive"]);
    const closed = sidecar.close();
    expect(await other(...metadata)).toEqual([200, "close"]);
    expect(await peer()(...metadata)).toEqual([200, "close"]);
    const notifiedAt = performance.now();
    expect(await balancer("health", "/readyz")).toEqual([503, "close"]);
    // Its workers may notice later. (A late answer of a stalled machine is ignored.)
    for (let late = 0; late < 3; late++) {
      const answer = await peer()(...metadata).catch(String);
      if (performance.now() - notifiedAt < healthSpreadMs) expect(answer).toEqual([200, "close"]);
    }
    await closed;
    await expect(peer()(...metadata)).rejects.toThrow("ECONNREFUSED");
  });

  it("does not wait for load balancers that do not poll or have disconnected", async () => {
    const health = createReadiness();
    const app = new Koa().use(health.middleware);
    const gone = Promise.withResolvers<void>();
    const server = app.listen(0, "127.0.0.1");
    await once(server, "listening");
    server.on("connection", (socket) => socket.once("close", () => gone.resolve()));
    const balancer = new Client(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    const { body } = await balancer.request({ method: "GET", path: "/readyz" });
    await body.dump();
    await balancer.destroy();
    await gone.promise;
    // Longer than the test's timeout.
    await health.drain(600_000);
    server.close();
  });
});
