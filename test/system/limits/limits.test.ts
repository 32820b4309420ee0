import { readFile } from "node:fs/promises";
import { type IncomingMessage, request } from "node:http";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { type E2e, startE2e } from "../../support/e2e.ts";
import { listenOf } from "../../support/grpc-peer.ts";
import { throughEnvoy } from "../../support/through-envoy.ts";

let stack: E2e;
beforeAll(async () => {
  stack = await startE2e({
    config: (config) => ({
      ...config,
      limits: { registrations_per_address: 3, authorizations_per_address: 2, body_bytes: "8KiB" },
      external_tokens: { max_bytes: "2KiB" },
    }),
  });
});
afterAll(() => stack.close());

/** A counter of the sidecar. */
async function counted(name: string, labels: string): Promise<number> {
  const metrics = await (await fetch(`${stack.adminUrl}/metrics`)).text();
  const line = metrics
    .split("\n")
    .find((one) => one.startsWith(`envoy_mcp_auth_${name}{`) && one.includes(labels));
  return Number(line?.split(" ").at(-1) ?? 0);
}
/** The sidecar's HTTP listener, without Envoy in front. */
async function httpPort(): Promise<number> {
  const config: { listen: { http: string } } = parse(await readFile(stack.configFile, "utf8"));
  return Number(config.listen.http.split(":")[1]);
}
/** Posts a form in two chunks, without Content-Length. */
async function inChunks(
  port: number,
  path: string,
  form: string,
): Promise<{ status: number | undefined; error?: string }> {
  const { envoy_secret: secret } = await listenOf(stack);
  const headers = {
    host: "auth.test",
    "content-type": "application/x-www-form-urlencoded",
    "x-mcp-auth-secret": secret,
  };
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const options = { host: "127.0.0.1", port, path, method: "POST", headers, agent: false };
    const outgoing = request(options, resolve).once("error", reject);
    outgoing.write(form.slice(0, 40));
    outgoing.end(form.slice(40));
  });
  return { ...JSON.parse((await text(response)) || "{}"), status: response.statusCode };
}
const reached = (limit: string) => counted("limits_reached_total", `limit="${limit}"`);
const register = (headers: Record<string, string> = {}, name = "limits") =>
  throughEnvoy(stack, {
    url: "https://auth.test/oauth/register",
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify({
      redirect_uris: ["http://127.0.0.1/callback"],
      token_endpoint_auth_method: "none",
      client_name: name,
    }),
  });

describe("limits are enforced and counted", () => {
  test("limits.body_bytes: a longer body to the gateway's own endpoints is 413", async () => {
    const answer = await register({}, "x".repeat(9 * 1024));
    expect(answer.status).toBe(413);
    expect(JSON.parse(answer.body).error_description).toContain("8192 bytes");
    expect(await reached("body_bytes")).toBe(1);
  });

  test("limits.body_bytes: a body without Content-Length is read up to the limit, and 413 beyond", async () => {
    const end = "&client_id=nobody";
    const form = (length: number) => "grant_type=x&padding=".padEnd(length - end.length, "x") + end;
    const before = await reached("body_bytes");
    const most = await inChunks(await httpPort(), "/oauth/token", form(8 * 1024));
    // Read to its end, which contains the client's name.
    expect(most).toMatchObject({ status: 401, error: "invalid_client" });
    const beyond = { status: 413, error: "invalid_request" };
    for (const path of ["/oauth/token", "/.pomerium/sign_in/back_channel_logout"])
      expect(await inChunks(await httpPort(), path, form(8 * 1024 + 1))).toMatchObject(beyond);
    const adminPort = Number(new URL(stack.adminUrl).port);
    expect(await inChunks(adminPort, "/admin/v1/routes", form(8 * 1024 + 1))).toMatchObject(beyond);
    expect(await reached("body_bytes")).toBe(before + 3);
  });

  test("limits.registrations_per_address: the next is 429, and a forged X-Forwarded-For does not help", async () => {
    for (const _one of [1, 2, 3]) expect((await register()).status).toBe(201);
    const answer = await register();
    expect(answer.status).toBe(429);
    expect(Number(answer.header("retry-after"))).toBeGreaterThan(0);
    expect((await register({ "x-forwarded-for": "192.0.2.77" })).status).toBe(429);
    expect(await reached("registrations_per_address")).toBe(2);
  });

  test("limits.authorizations_per_address: the next is 429, also under the alias", async () => {
    const begin = (path: string) => throughEnvoy(stack, { url: `https://auth.test${path}` });
    expect((await begin("/oauth/authorize")).status).toBe(400);
    expect((await begin("/.pomerium/sign_in?return_to=/")).status).toBeLessThan(400);
    expect((await begin("/oauth/authorize")).status).toBe(429);
    expect((await begin("/.pomerium/mcp/authorize")).status).toBe(429);
    expect(await reached("authorizations_per_address")).toBe(2);
    const page = await throughEnvoy(stack, {
      url: "https://auth.test/.pomerium/sign_in?return_to=/",
      headers: { accept: "text/html,*/*;q=0.8", "sec-fetch-mode": "navigate" },
    });
    expect([page.status, page.header("content-type")]).toEqual([429, "text/html; charset=utf-8"]);
    expect(Number(page.header("retry-after"))).toBeGreaterThan(0);
    for (const fact of ["Too many authorizations from your address", "too_many_requests", "Request id"])
      expect(page.body).toContain(fact);
  });

  test.each([
    ["GET", "/oauth/authorize/"],
    ["GET", "/oauth/Authorize"],
    ["HEAD", "/oauth/authorize"],
    ["GET", "/.pomerium/mcp/AUTHORIZE/"],
    ["HEAD", "/.pomerium/sign_in"],
    ["GET", "/.pomerium/Sign_In/"],
    ["GET", "/.pomerium/mcp/connect/"],
    ["POST", "/oauth/register/"],
    ["POST", "/oauth/Register"],
    ["POST", "/.pomerium/mcp/REGISTER"],
  ])(
    "limits by address cannot be bypassed with a different spelling of the path: %s %s",
    async (method, path) => {
      const answer = await throughEnvoy(stack, {
        url: `https://auth.test${path}`,
        method,
        headers: { "content-type": "application/json" },
        ...(method === "POST" && { body: "{}" }),
      });
      expect(answer.status).toBe(429);
    },
  );

  test("check.max_header_bytes: longer headers at the sidecar's HTTP listener are 431", async () => {
    const socket = connect({ host: "127.0.0.1", port: await httpPort() });
    socket.write(`GET / HTTP/1.1\r\nhost: auth.test\r\nx-long: ${"x".repeat(61 * 1024)}\r\n\r\n`);
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 431 /);
    expect(await reached("header_bytes")).toBe(1);
  });

  test("external_tokens.max_bytes: a huge JWT is 401 before it is parsed", async () => {
    const giant = `Bearer ${"e".repeat(1024)}.${"y".repeat(1024)}.${"J".repeat(1024)}`;
    const answer = await throughEnvoy(stack, {
      url: "https://open.test/",
      headers: { authorization: giant },
    });
    expect(answer.status).toBe(401);
    expect(answer.body).toContain("too long");
    expect(await counted("checks_total", 'reason="too_large"')).toBe(1);
  });
});

test.each([
  ["announced", "content-length: 100\r\n\r\nx="],
  ["unannounced", "transfer-encoding: chunked\r\n\r\n9\r\nx="],
])(
  "a client that disconnects in the middle of its %s body is not an internal error",
  async (_length, sent) => {
    const socket = connect({ host: "127.0.0.1", port: await httpPort() });
    const form = "content-type: application/x-www-form-urlencoded";
    await new Promise<void>((resolve) => {
      socket.write(`POST /.pomerium/sign_out HTTP/1.1\r\nhost: auth.test\r\n${form}\r\n${sent}`, () =>
        resolve(),
      );
    });
    socket.destroy();
    // Served afterwards, so that the log is complete.
    expect((await throughEnvoy(stack, { url: "https://auth.test/oauth/jwks" })).status).toBe(200);
    expect(await readFile(stack.sidecar().logFile, "utf8")).not.toContain('"level":"error"');
  },
);

test("a failed request at the sidecar's HTTP listener is counted by its cause", async () => {
  const post = () =>
    throughEnvoy(stack, {
      url: "https://auth.test/.pomerium/sign_out",
      method: "POST",
      headers: { "content-type": "application/json" },
      body: "{}",
    });
  expect((await post()).status).toBe(415);
  expect(await counted("errors_total", 'component="http",code="invalid_request"')).toBe(1);
});
