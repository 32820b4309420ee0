import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { request } from "undici";
import { afterAll, beforeAll, expect, test } from "vitest";
import { stringify } from "yaml";
import { type Sidecar, serve } from "../../src/serve.ts";
import { createTestDatabase } from "../support/postgres.ts";

/** A sidecar on loopback whose operator has disabled authentication: every process on the machine can call it. */
let folder: string;
let sidecar: Sidecar;
let database: Awaited<ReturnType<typeof createTestDatabase>>;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "forwarded-"));
  const anyPort = "127.0.0.1:0";
  const file = join(folder, "routes.yaml");
  const config = {
    issuer: "https://auth.test",
    listen: { grpc: anyPort, http: anyPort, admin: anyPort, grpc_authentication: "none" },
    limits: { registrations_per_address: 2 },
    sign_in: { providers: [{ issuer: "https://id.test", client_id: "c" }] },
    policy: { allow: { or: [{ accept: true }] } },
    routes: [{ id: "a", from: "https://a.test", to: "http://127.0.0.1:1", mcp: {} }],
    log: { level: "error" },
  };
  await writeFile(file, stringify(config), { mode: 0o600 });
  database = await createTestDatabase();
  const env = { DATABASE_URL: database.url, ENCRYPTION_KEY: Buffer.alloc(32, 1).toString("base64url") };
  sidecar = await serve({ file, env });
});
afterAll(async () => {
  await sidecar?.close();
  await database?.close();
  await rm(folder, { recursive: true, force: true });
});

const register = async (headers: Record<string, string>) => {
  const answer = await request(`http://${sidecar.http}/oauth/register`, {
    method: "POST",
    headers: { host: "auth.test", "content-type": "application/json", ...headers },
    body: JSON.stringify({
      redirect_uris: ["http://127.0.0.1/callback"],
      token_endpoint_auth_method: "none",
    }),
  });
  await answer.body.dump();
  return answer;
};

test("without a secret, a forged X-Forwarded-For does not bypass the limit by address", async () => {
  const statuses: number[] = [];
  for (let address = 1; address <= 4; address++)
    statuses.push((await register({ "x-forwarded-for": `192.0.2.${address}` })).statusCode);
  expect(statuses).toEqual([201, 201, 429, 429]);
});

test("without a secret, a forged request id is ignored", async () => {
  const { headers } = await register({ "x-request-id": "somebody-elses-request" });
  expect(headers["x-request-id"]).toMatch(/^[0-9a-f-]{36}$/);
});
