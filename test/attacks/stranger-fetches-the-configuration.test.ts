import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { request } from "node:https";
import { connect as connectTcp, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { connect as connectTls } from "node:tls";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { stringify } from "yaml";
import { type CertificateAuthority, certificateAuthority } from "../../dev/demo/certificate-authority.ts";
import { freePort } from "../../dev/demo/free-port.ts";
import { type Sidecar, sidecar } from "../../dev/demo/sidecar.ts";
import { createTestDatabase } from "../support/postgres.ts";

/*
 * A neighbor reaches the listener where Envoys fetch their configuration, and may know the secret with which Envoy calls the checks. An
 * Envoy that has been taken over knows the listener's own secret.
 */
const checkSecret = "c".repeat(43);
const xdsSecret = "x".repeat(43);
const header = "x-mcp-auth-xds-secret";
/** What the routes file contains besides; no Envoy needs it. */
const secrets = {
  client: "secret-of-the-sign-in-client",
  apiKey: "credential-of-the-upstream",
  admin: "token-of-the-admin-api-0123456789abcdef",
  viewer: "token-of-a-viewer-0123456789abcdefghijk",
  encryption: Buffer.alloc(32, 7).toString("base64url"),
};
const listeners = "/v3/discovery:listeners";
const paths = ["/v3/discovery:clusters", "/v3/discovery:routes", listeners];

let folder: string;
let ca: CertificateAuthority;
let database: Awaited<ReturnType<typeof createTestDatabase>>;
let running: Sidecar;
let port: number;
let adminPort: number;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "stranger-"));
  ca = await certificateAuthority(folder, ["sidecar.internal"]);
  database = await createTestDatabase();
  [port, adminPort] = [await freePort(), await freePort()];
  const address = async () => `127.0.0.1:${await freePort()}`;
  const configFile = join(folder, "routes.yaml");
  await writeFile(
    configFile,
    stringify({
      issuer: "https://auth.test",
      listen: {
        ...{ grpc: await address(), http: await address(), admin: `127.0.0.1:${adminPort}` },
        envoy_secret: checkSecret,
        xds: {
          address: `127.0.0.1:${port}`,
          certificate: ca.files.certificate,
          key: ca.files.key,
          secret: xdsSecret,
        },
      },
      envoy: { tls: { certificate: ca.files.certificate, key: ca.files.key } },
      sign_in: { providers: [{ issuer: "https://id.test", client_id: "c", client_secret: secrets.client }] },
      admin_api: { admin_tokens: [secrets.admin], viewer_tokens: [secrets.viewer] },
      policy: { allow: { or: [{ accept: true }] } },
      routes: [
        {
          id: "a",
          from: "https://a.test",
          to: "http://127.0.0.1:1",
          mcp: { server: { upstream_auth: { api_key: { header: "x-api-key", value: secrets.apiKey } } } },
        },
      ],
    }),
    { mode: 0o600 },
  );
  const env = { DATABASE_URL: database.url, ENCRYPTION_KEY: secrets.encryption };
  running = await sidecar({ configFile, logFile: join(folder, "sidecar.log"), env });
});
afterAll(async () => {
  running?.kill("SIGKILL");
  await database?.close();
  await rm(folder, { recursive: true, force: true });
});

const open: Socket[] = [];
afterEach(() => {
  for (const socket of open.splice(0)) socket.destroy();
});

const query = JSON.stringify({ node: { id: "envoy-1" }, resource_names: ["mcp"] });
/** A request on a new connection. */
async function fetchConfiguration(
  path: string,
  headers: Record<string, string | string[]>,
  { body = query, method = "POST" } = {},
): Promise<{ status: number | undefined; body: string }> {
  const outgoing = request({
    ...{ host: "127.0.0.1", port, servername: "sidecar.internal", ca: ca.ca, agent: false },
    ...{ method, path, headers },
  });
  outgoing.on("error", () => {}).end(body);
  const [response] = await once(outgoing, "response");
  return { status: response.statusCode, body: await text(response) };
}
const asEnvoy = { [header]: xdsSecret };
const rejected = async () => {
  const metrics = await (await fetch(`http://127.0.0.1:${adminPort}/metrics`)).text();
  return Number(/unauthenticated_calls_total\{listener="xds"\} (\d+)/.exec(metrics)?.[1]);
};
async function envoyIsServed(): Promise<void> {
  const { status, body } = await fetchConfiguration(listeners, asEnvoy);
  expect([status, JSON.parse(body).resources.length]).toEqual([200, 1]);
}

test.each<[string, Record<string, string | string[]>]>([
  ["nothing", {}],
  ["an empty secret", { [header]: "" }],
  ["a wrong secret", { [header]: "w".repeat(43) }],
  ["the beginning of the secret", { [header]: xdsSecret.slice(0, 42) }],
  ["the secret twice", { [header]: [xdsSecret, xdsSecret] }],
  ["the check's secret", { "x-mcp-auth-secret": checkSecret }],
  ["the check's secret in the listener's header", { [header]: checkSecret }],
  ["the listener's secret in another header", { authorization: `Bearer ${xdsSecret}` }],
  ["the admin API's token", { authorization: `Bearer ${secrets.admin}` }],
])("a neighbor with %s does not get the configuration", async (_what, headers) => {
  const before = await rejected();
  const answers = await Promise.all(
    [...paths, "/v3/discovery:secrets", "/"].map((path) => fetchConfiguration(path, headers)),
  );
  // The same response everywhere: it reveals nothing.
  for (const { status, body } of answers) expect([status, body]).toEqual([403, answers[0]?.body]);
  expect(answers[0]?.body).not.toContain("a.test");
  expect(await rejected()).toBe(before + answers.length);
});

test("the listener's secret does not open the other listeners", async () => {
  const log = await readFile(running.logFile, "utf8");
  const { http } = JSON.parse(log.split("\n").find((line) => line.includes('"msg":"ready"')) ?? "{}");
  for (const headers of [{ "x-mcp-auth-secret": xdsSecret }, asEnvoy])
    expect((await fetch(`http://${http}/oauth/jwks`, { headers })).status).toBe(403);
  const admin = await fetch(`http://127.0.0.1:${adminPort}/admin/v1/routes`, {
    headers: { authorization: `Bearer ${xdsSecret}` },
  });
  expect(admin.status).toBe(401);
});

test("a neighbor without TLS gets nothing", async () => {
  const socket = connectTcp(port, "127.0.0.1");
  socket
    .on("error", () => {})
    .write(`POST ${listeners} HTTP/1.1\r\nhost: a\r\n${header}: ${xdsSecret}\r\n\r\n`);
  expect(await text(socket).catch(() => "")).not.toContain("HTTP/1.1 200");
});

test("what an Envoy gets contains no private key, and no secret but the one for the checks", async () => {
  const answers = await Promise.all(paths.map((path) => fetchConfiguration(path, asEnvoy)));
  expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
  const served = answers.map(({ body }) => body).join("\n");
  const key = await readFile(ca.files.key, "utf8");
  const certificate = await readFile(ca.files.certificate, "utf8");
  for (const line of [...key.split("\n"), ...certificate.split("\n")].filter(Boolean))
    expect(served).not.toContain(line);
  expect(served).not.toMatch(/-----BEGIN|PRIVATE KEY|inline_bytes/);
  expect(served).toContain(`"private_key":{"filename":${JSON.stringify(ca.files.key)}}`);
  for (const secret of [...Object.values(secrets), xdsSecret, database.url])
    expect(served).not.toContain(secret);
  expect(served).toContain(checkSecret);
  // There is nothing else to fetch: secrets are not served.
  for (const path of ["/v3/discovery:secrets", "/v3/discovery:endpoints", "/config_dump"])
    expect((await fetchConfiguration(path, asEnvoy)).status).toBe(404);
});

test("a request that is too long or malformed is rejected, and Envoy is served", async () => {
  const long = JSON.stringify({ node: { id: "n".repeat(2 * 1024 * 1024) } });
  expect((await fetchConfiguration(listeners, asEnvoy, { body: long })).status).toBe(413);
  for (const body of ["", "null", "[", "1", '"x"'])
    expect([body, (await fetchConfiguration(listeners, asEnvoy, { body })).status]).toEqual([body, 400]);
  const nameless = await fetchConfiguration("/v3/discovery:routes", asEnvoy, { body: "{}" });
  expect(nameless.status).toBe(400);
  expect((await fetchConfiguration(listeners, asEnvoy, { method: "PUT" })).status).toBe(404);
  await envoyIsServed();
});

test("a neighbor sends a body without end: it is answered before it is read", async () => {
  const socket = connectTls({ host: "127.0.0.1", port, servername: "sidecar.internal", ca: ca.ca });
  open.push(socket);
  socket.write(`POST ${listeners} HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\nx`);
  expect(await text(socket)).toMatch(/^HTTP\/1\.1 403 /);
});

test("a neighbor opens thousands of silent connections: Envoy is served, and keeps its own", async () => {
  const envoy = connectTls({ host: "127.0.0.1", port, servername: "sidecar.internal", ca: ca.ca });
  open.push(envoy);
  const ask = () =>
    envoy.write(
      `POST ${listeners} HTTP/1.1\r\nhost: a\r\n${header}: ${xdsSecret}\r\ncontent-length: ${query.length}\r\n\r\n${query}`,
    );
  let answers = 0;
  envoy.on("data", (chunk) => {
    answers += chunk.toString().split("HTTP/1.1 200").length - 1;
  });
  ask();
  await expect.poll(() => answers).toBe(1);
  for (let batch = 0; batch < 17; batch++)
    await Promise.all(
      Array.from({ length: 250 }, async () => {
        const socket = connectTcp(port, "127.0.0.1");
        open.push(socket);
        socket.on("error", () => {}).resume();
        await once(socket, "connect");
      }),
    );
  await envoyIsServed();
  expect(envoy.destroyed).toBe(false);
  ask();
  await expect.poll(() => answers).toBe(2);
  // More than half of the listener's connections: the oldest are closed, at the latest when their handshake times out.
  await expect.poll(() => open.filter(({ destroyed }) => destroyed).length).toBeGreaterThan(0);
  await envoyIsServed();
});

test("the log names neither secret", async () => {
  const log = await readFile(running.logFile, "utf8");
  expect(log).toContain("calls rejected");
  for (const secret of [xdsSecret, checkSecret, "w".repeat(43)]) expect(log).not.toContain(secret);
});
