import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer as createHttpServer } from "node:http";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { certificateAuthority } from "../../dev/demo/certificate-authority.ts";
import { listen } from "../../dev/demo/listen.ts";
import { createPrivateHostList, isPublicAddress, type ResolveHost } from "../../src/egress/addresses.ts";
import { systemAuthorities } from "../../src/egress/connector.ts";
import { createSafeFetch, createTrustedFetch } from "../../src/egress/safe-fetch.ts";
import { readEvents } from "../../src/upstream-oauth/legacy-stream.ts";
import { createRouteFetch } from "../../src/upstream-oauth/route-fetch.ts";
import { type ScriptedServer, scriptedServer } from "../upstream-oauth/scripted-server.ts";

const limits = (allowedPrivateHosts: readonly string[] = [], timeoutMs = 2000) => ({
  timeoutMs,
  maxResponseBytes: 1024 * 1024,
  allowedPrivateHosts,
});
const safe = (allowed: readonly string[] = [], resolveHost?: ResolveHost, timeoutMs?: number) =>
  createSafeFetch({ limits: () => limits(allowed, timeoutMs), resolveHost });
const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => "fetched",
    (error: { code: string }) => error.code,
  );

describe("safe fetching", () => {
  let server: ScriptedServer;
  beforeAll(async () => {
    server = await scriptedServer();
  });
  afterAll(() => server.close());
  beforeEach(() => {
    server.seen.length = 0;
  });
  const fetchHere = (path: string, timeoutMs?: number) =>
    safe(["127.0.0.1"], undefined, timeoutMs)(`${server.url}${path}`);

  it("returns a JSON document with its headers", async () => {
    server.on("/ok", { body: { fine: true }, headers: { etag: '"1"' } });
    const response = await fetchHere("/ok");
    expect(await response.json()).toEqual({ fine: true });
    expect(response.headers.get("etag")).toBe('"1"');
  });

  it("sends method, headers and body unchanged, and accepts a response without a body", async () => {
    server.on("/post", { status: 204 });
    const init = { method: "POST", headers: { "x-one": "1" }, body: new URLSearchParams({ a: "b c" }) };
    const response = await safe(["127.0.0.1"])(new Request(`${server.url}/post`, init));
    expect(response.status).toBe(204);
    expect(server.seen[0]).toMatchObject({ method: "POST", body: "a=b+c", headers: { "x-one": "1" } });
  });

  it.each([301, 302, 303, 307, 308])("does not follow a redirect (%i)", async (status) => {
    server.on("/away", { status, headers: { location: `${server.url}/target` } });
    expect(await codeOf(fetchHere("/away"))).toBe("redirect_not_followed");
    expect(server.paths()).toEqual(["/away"]);
  });

  it("stops reading after 1 MiB, also of decompressed data", async () => {
    server.on("/big", { body: "x".repeat(2 * 1024 * 1024) });
    const bomb = gzipSync("x".repeat(8 * 1024 * 1024));
    server.on("/bomb", { body: bomb, headers: { "content-encoding": "gzip" } });
    expect(await codeOf(fetchHere("/big"))).toBe("too_large");
    expect(await codeOf(fetchHere("/bomb"))).toBe("too_large");
  });

  it("times out on a server that never responds, and on a response that never ends", async () => {
    server.on("/never", () => undefined);
    expect(await codeOf(fetchHere("/never", 100))).toBe("timed_out");
    const dripping = await drippingServer();
    expect(await codeOf(safe(["127.0.0.1"], undefined, 100)(dripping.url))).toBe("timed_out");
    await dripping.close();
  });

  it("respects the caller's abort signal", async () => {
    server.on("/never", () => undefined);
    const call = safe(["127.0.0.1"])(`${server.url}/never`, { signal: AbortSignal.abort() });
    await expect(call).rejects.toThrow(/abort/i);
  });

  it("blocks http, except for hosts that the operator allows", async () => {
    server.on("/ok", { body: {} });
    const { host } = server;
    expect(await codeOf(safe()(`${server.url}/ok`))).toBe("insecure_url");
    expect(await codeOf(safe(["other.test"])(`${server.url}/ok`))).toBe("insecure_url");
    expect(await codeOf(safe(["127.0.0.1:1"])(`${server.url}/ok`))).toBe("insecure_url");
    for (const allowed of ["127.0.0.1", host, "127.0.0.0/8"]) {
      expect(await codeOf(safe([allowed])(`${server.url}/ok`))).toBe("fetched");
    }
    const byName = server.url.replace("127.0.0.1", "localhost");
    expect(await codeOf(safe(["localhost"])(byName))).not.toBe("insecure_url");
    expect(await codeOf(safe()("ftp://example.com/"))).toBe("bad_url");
  });

  it.each([
    "https://127.0.0.1",
    "https://2130706433",
    "https://0x7f.1",
    "https://0.0.0.0",
    "https://10.1.2.3",
    "https://172.16.0.1",
    "https://192.168.1.1",
    "https://100.64.0.1",
    "https://169.254.169.254",
    "https://168.63.129.16",
    "https://224.0.0.1",
    "https://255.255.255.255",
    "https://[::1]",
    "https://[::]",
    "https://[fd00:ec2::254]",
    "https://[fe80::1]",
    "https://[::ffff:10.0.0.1]",
    "https://[::ffff:7f00:1]",
    "https://[::127.0.0.1]",
    "https://[64:ff9b::a9fe:a9fe]",
    "https://[64:ff9b:1::1]",
    "https://[2002:7f00:1::]",
    "https://[2001::1]",
    "https://[ff02::1]",
  ])("blocks a non-public address: %s", async (url) => {
    expect(await codeOf(safe([], undefined, 500)(`${url}:8443/`))).toBe("blocked_address");
  });

  it("the timeout applies to the start of an event stream that the caller reads, not to the stream", async () => {
    const opened = Promise.withResolvers<(text: string) => void>();
    const stream = { headers: { "content-type": "text/event-stream" }, body: ": hello\n\n" };
    server.on("/stream", { ...stream, onEnd: () => {}, onOpen: opened.resolve });
    server.on("/never", () => undefined);
    const fetch = createTrustedFetch({
      limits: () => limits([], 500),
      body: { openFor: ({ headers }) => headers.get("content-type") === "text/event-stream" },
    });
    const { body } = await fetch(`${server.url}/stream`);
    if (body === null) throw new Error("no body");
    const { next, end } = readEvents(body, { timeoutMs: 60_000, maxResponseBytes: 1000 });
    // Started later, so its timeout is later.
    expect(await codeOf(fetch(`${server.url}/never`))).toBe("timed_out");
    const write = await opened.promise;
    write("event: a\ndata: 1\n\n");
    expect(await next(({ type }) => type)).toEqual({ made: "a" });
    write("data: 2\n\n");
    expect(await next(({ data }) => data)).toEqual({ made: "2" });
    await end();
  });

  it("the timeout applies to each event, and the size limit to all events together", async () => {
    const opened = () => {
      const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
      const writer = writable.getWriter();
      return {
        write: (text: string) => void writer.write(new TextEncoder().encode(text)).catch(() => {}),
        events: readEvents(readable, { timeoutMs: 100, maxResponseBytes: 100 }),
      };
    };
    const { write, events } = opened();
    for (const data of ["1", "2", "3"]) {
      write(`data: ${data}\n\n`);
      expect(await events.next((event) => event.data)).toEqual({ made: data });
      // A whole timeout passes.
      expect(await opened().events.next(() => "none")).toEqual({ isLate: true });
    }
    write(`${": x\n".repeat(100)}data: 4\n\n`);
    expect(await events.next(({ data }) => data)).toEqual({ isLate: false });
  });

  it("a session uses the address of its first request if a name has several", async () => {
    const other = createHttpServer((_request, response) => void response.end("other"));
    await new Promise<void>((resolve) =>
      other.listen(Number(new URL(server.url).port), "127.0.0.2", resolve),
    );
    server.on("/open", { body: "first", headers: { "content-type": "text/event-stream" }, onEnd: () => {} });
    server.on("/post", { body: "first" });
    let asked = 0;
    const resolveHost: ResolveHost = (_name, done) => {
      const addresses = ["127.0.0.1", "127.0.0.2"].map((address) => ({ address, family: 4 }));
      done(null, asked++ === 0 ? addresses : addresses.toReversed());
    };
    const url = `http://replicas.test:${new URL(server.url).port}`;
    const config = { upstreamOAuth: limits(), envoy: { upstreamCa: systemAuthorities } };
    const routeFetch = createRouteFetch({ routes: () => ({ config }) as never, resolveHost });
    const route = { to: [url], origin: "https://mcp.test" } as never;
    const send = routeFetch.legacySession(route);
    const stream = await send({}, `${url}/open`);
    await send({ method: "POST" }, `${url}/post`);
    await stream.body?.cancel();
    expect(server.paths()).toEqual(["/open", "/post"]);
    // Another session may use any of them.
    await routeFetch.legacySession(route)({ method: "POST" }, `${url}/post`);
    expect([server.paths().length, asked]).toEqual([2, 2]);
    other.closeAllConnections();
    await new Promise((resolve) => other.close(resolve));
  });

  it("recognizes public addresses", () => {
    const addresses = ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"];
    expect(addresses.filter(isPublicAddress)).toEqual(addresses);
    expect(isPublicAddress("not an address")).toBe(false);
  });

  it("blocks a private address of a public name, also one of several", async () => {
    const answers = (...addresses: string[]): ResolveHost => {
      return (_name, done) =>
        done(
          null,
          addresses.map((address) => ({ address, family: 4 })),
        );
    };
    const url = server.url.replace("http://127.0.0.1", "https://innocent.test");
    expect(await codeOf(safe([], answers("127.0.0.1"))(url))).toBe("blocked_address");
    expect(await codeOf(safe([], answers("10.0.0.1", "127.0.0.1", "192.168.0.1"))(url))).toBe(
      "blocked_address",
    );
    expect(server.seen).toEqual([]);
  });

  it("is not affected by DNS rebinding: connects to the address that was checked", async () => {
    server.on("/ok", { body: {}, headers: { connection: "close" } });
    const addresses = ["127.0.0.1", "127.0.0.2"];
    let asked = 0;
    const rebinding: ResolveHost = (_name, done) => {
      done(null, [{ address: addresses[Math.min(asked++, 1)] ?? "", family: 4 }]);
    };
    const url = server.url.replace("127.0.0.1", "rebinding.test");
    const call = safe(["127.0.0.1/32"], rebinding);
    expect(await codeOf(call(`${url}/ok`))).toBe("fetched");
    expect(asked).toBe(1);
    expect(await codeOf(call(`${url}/ok`))).toBe("blocked_address");
    expect(server.seen.length).toBe(1);
  });

  it("a changed list takes effect immediately, also for open connections", async () => {
    server.on("/ok", { body: {} });
    let allowed = ["127.0.0.0/8"];
    const call = createSafeFetch({ limits: () => limits(allowed) });
    expect(await codeOf(call(`${server.url}/ok`))).toBe("fetched");
    allowed = ["10.0.0.0/8"];
    expect(await codeOf(call(`${server.url}/ok`))).toBe("insecure_url");
  });

  it("reports errors without path and query, which may be secret", async () => {
    const error: Error = await safe()("http://plain.test/path?code=secret").catch((thrown) => thrown);
    expect(error.message).toContain("plain.test");
    expect(error.message).not.toMatch(/secret|path\?/);
    const unknown: ResolveHost = (_name, done) => {
      done(Object.assign(new Error("no"), { code: "ENOTFOUND" }), []);
    };
    expect(await codeOf(safe([], unknown)("https://nowhere.test/"))).toBe("dns_failed");
    expect(await codeOf(safe(["127.0.0.1"])("http://127.0.0.1:1/"))).toBe("unreachable");
  });

  it("rejects a certificate that it cannot verify", async () => {
    const folder = await mkdtemp(join(tmpdir(), "ca-"));
    const { files } = await certificateAuthority(folder);
    const pem = { cert: await readFile(files.certificate), key: await readFile(files.key) };
    const tls = createServer(pem, (_request, response) => response.end("{}"));
    await new Promise<void>((resolve) => tls.listen(0, "127.0.0.1", resolve));
    const { port } = tls.address() as AddressInfo;
    expect(await codeOf(safe(["localhost"])(`https://localhost:${port}/`))).toBe("tls_failed");
    tls.close();
    await rm(folder, { recursive: true });
  });

  it("allows private addresses for the operator's URLs, but http only for loopback", async () => {
    server.on("/ok", { body: {} });
    const trusted = createTrustedFetch({ limits: () => limits() });
    expect(await codeOf(trusted(`${server.url}/ok`))).toBe("fetched");
    expect(await codeOf(trusted("http://192.168.0.1:1/"))).toBe("insecure_url");
    server.on("/away", { status: 302, headers: { location: `${server.url}/ok` } });
    expect(await codeOf(trusted(`${server.url}/away`))).toBe("redirect_not_followed");
  });

  it("reports an invalid entry of allowed_private_hosts", () => {
    expect(() => createPrivateHostList(["https://x.test/"])).toThrow(/allowed_private_hosts/);
    const list = createPrivateHostList(["Box.Internal:8443", "fd00::/8", "[::1]:9000", "10.0.0.7"]);
    expect(list.namesHost("box.internal", 8443)).toBe(true);
    expect(list.namesHost("box.internal", 443)).toBe(false);
    expect(list.namesHost("[::1]", 9000)).toBe(true);
    expect(list.holdsAddress("fd12::1")).toBe(true);
    expect(list.holdsAddress("10.0.0.7")).toBe(true);
    expect(list.holdsAddress("10.0.0.8")).toBe(false);
  });
});

/** Sends headers, then a byte at intervals, without end. */
async function drippingServer() {
  return listen((_request, response) => {
    response.writeHead(200, { "content-type": "application/json" });
    const timer = setInterval(() => response.write(" "), 10);
    response.on("close", () => clearInterval(timer));
  });
}
