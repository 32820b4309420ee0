import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { type IncomingMessage, request } from "node:http";
import { type AddressInfo, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { type Sidecar, sidecar } from "../../../dev/demo/sidecar.ts";
import { createTestDatabase } from "../../support/postgres.ts";

/*
 * Untrusted requests to the public listener of the real process, without Envoy, which would remove some of them.
 */
let folder: string;
let running: Sidecar;
let database: Awaited<ReturnType<typeof createTestDatabase>>;
let inner: Listener;
let opened: Listener;

interface Listener {
  readonly server: Server;
  readonly port: number;
  connections: number;
}
/** Counts connections and closes them. */
async function startListener(): Promise<Listener> {
  const server = createServer((socket) => {
    listener.connections += 1;
    socket.destroy();
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const listener = { server, port: (server.address() as AddressInfo).port, connections: 0 };
  return listener;
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "public-door-"));
  inner = await startListener();
  opened = await startListener();
  const unix = (name: string) => `unix:${join(folder, name)}`;
  const config = {
    issuer: "https://auth.test",
    listen: { grpc: unix("grpc"), http: unix("http"), admin: unix("admin") },
    sign_in: { providers: [{ issuer: "https://id.test", client_id: "c" }] },
    upstream_oauth: { allowed_private_hosts: [`127.0.0.1:${opened.port}`] },
    policy: { allow: { or: [{ accept: true }] } },
    routes: ["a", "b"].map((id) => ({
      id,
      from: `https://${id}.test`,
      to: "http://127.0.0.1:1/mcp",
      mcp: { server: {} },
    })),
  };
  const configFile = join(folder, "routes.yaml");
  await writeFile(configFile, stringify(config), { mode: 0o600 });
  database = await createTestDatabase();
  const env = { DATABASE_URL: database.url, ENCRYPTION_KEY: randomBytes(32).toString("base64url") };
  running = await sidecar({ configFile, logFile: join(folder, "log"), env });
});
afterAll(async () => {
  await running?.close();
  await database?.close();
  for (const listener of [inner, opened]) listener?.server.close();
  await rm(folder, { recursive: true, force: true });
});

/** Sends a request with `host`; the response has a JSON body or none. */
async function ask(host: string, path: string, more: Record<string, string> = {}) {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const headers = { host, accept: "application/json", ...more };
    request({ socketPath: join(folder, "http"), path, headers, agent: false }, resolve)
      .once("error", reject)
      .end();
  });
  const body = await text(response);
  const isJson = /json/.test(response.headers["content-type"] ?? "");
  const fields: Record<string, unknown> = isJson ? JSON.parse(body) : {};
  return { ...fields, status: response.statusCode, location: response.headers.location };
}

describe("a client_id as a URL to fetch", () => {
  const authorize = (clientId: string) => {
    const query = new URLSearchParams({
      client_id: clientId,
      redirect_uri: "http://127.0.0.1/callback",
      response_type: "code",
      code_challenge: "x".repeat(43),
      code_challenge_method: "S256",
      resource: "https://a.test",
    });
    return ask("auth.test", `/oauth/authorize?${query}`);
  };

  test.each(["localhost", "127.0.0.1"])("on %s is rejected without a connection", async (host) => {
    const answer = await authorize(`https://${host}:${inner.port}/client.json`);
    expect(answer).toMatchObject({ status: 400, error: "invalid_client" });
    expect(inner.connections).toBe(0);
  });

  test("is fetched from a host in allowed_private_hosts, which proves that connections are counted", async () => {
    const answer = await authorize(`https://127.0.0.1:${opened.port}/client.json`);
    expect(answer).toMatchObject({ status: 400, error: "invalid_client" });
    expect(opened.connections).toBeGreaterThan(0);
  });
});

test.each(["evil.test", "b.test", "auth.test"])(
  "X-Forwarded-Host: %s does not change the host",
  async (forged) => {
    const headers = { "x-forwarded-host": forged, "x-forwarded-proto": "http" };
    expect(await ask("a.test", "/.well-known/oauth-protected-resource", headers)).toMatchObject({
      status: 200,
      resource: "https://a.test",
    });
    expect(await ask("a.test", "/.well-known/oauth-authorization-server", headers)).toEqual(
      await ask("a.test", "/.well-known/oauth-authorization-server"),
    );
    const { location } = await ask("a.test", "/.pomerium/sign_in?return_to=/", headers);
    const to = new URL(location ?? "");
    expect([to.origin, to.searchParams.get("host")]).toEqual(["https://auth.test", "a.test"]);
  },
);
