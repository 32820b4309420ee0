import { randomBytes } from "node:crypto";
import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import { boundedCache } from "../../../src/util/bounded-cache.ts";
import { startChecks } from "../../ext-authz/start-checks.ts";
import { changes } from "../../store/changes.ts";

const endpoint = "{auth_url: https://as.test/authorize, token_url: https://as.test/token}";
const yaml = `
issuer: https://auth.test
sign_in: {providers: [{issuer: https://idp.test, client_id: x}]}
policy: {allow: {or: [{accept: true}]}}
limits: {cache_entries: 100, token_cache_bytes: 1MiB}
routes:
  - {id: app, name: App, from: https://app.test, to: http://127.0.0.1:1, mcp: {client: {}}}
  - {id: open, name: Open, from: https://open.test, to: http://127.0.0.1:2, mcp: {server: {upstream_auth: none}}}
  - {id: files, name: Files, from: https://files.test, to: http://127.0.0.1:3, mcp: {server: {upstream_oauth2: {client_id: c, client_secret: s, endpoint: ${endpoint}}}}}
`;
afterEach(() => vi.restoreAllMocks());
let checks: Awaited<ReturnType<typeof startChecks>>;
beforeAll(async () => {
  checks = await startChecks(yaml);
  await vi.waitUntil(checks.store.notifications.healthy, 60_000);
});
afterAll(() => checks.close());

const evicted = async (cache: string) =>
  (await checks.metrics.cacheEvictions.get()).values.find(({ labels }) => labels.cache === cache)?.value ?? 0;

/** Signs a person in; resolves when the change notification has arrived, which would evict cache entries. */
async function signedIn(index: number): Promise<string> {
  const userId = `idp/person-${index}`;
  const told = changes(checks.store, (change) => "userId" in change && change.userId === userId);
  await checks.signedIn({ userId, subject: `person-${index}` });
  await told.next;
  told.stop();
  return userId;
}

/** Sends a request as a person with a session on the application's host. */
async function asPersonWithSession(index: number): Promise<() => Promise<number>> {
  const userId = await signedIn(index);
  const id = randomBytes(32).toString("base64url");
  const times = { createdAt: new Date(), expiresAt: new Date(Date.now() + 3_600_000) };
  await checks.store.browserSessions.create({ id, host: "app.test", userId, ...times });
  const headers = { cookie: `__Host-mcp_session=${id}` };
  return async () => (await checks.ask({ method: "GET", url: "https://app.test/", headers })).status;
}
/** Sends a request as an MCP client of a person without a connection. */
async function asPersonWithoutConnection(index: number): Promise<() => Promise<number>> {
  const token = await checks.token({ aud: "https://files.test", sub: await signedIn(index) });
  const headers = { authorization: `Bearer ${token}` };
  return async () => (await checks.ask({ url: "https://files.test/", headers })).status;
}

test.each([
  [["browser_session", "session_token"], 0, asPersonWithSession],
  [["connection", "person"], 401, asPersonWithoutConnection],
])(
  "limits.cache_entries: %j evict their oldest entry when full, and count it",
  async (caches, status, asPerson) => {
    // Caches behave differently while the listener is behind.
    vi.spyOn(checks.store.notifications, "healthy").mockReturnValue(true);
    const asks = await Promise.all(Array.from({ length: 101 }, (_, index) => asPerson(index)));
    for (const ask of asks.slice(0, 100)) expect(await ask()).toBe(status);
    for (const cache of caches) expect([cache, await evicted(cache)]).toEqual([cache, 0]);
    expect(await asks[100]?.()).toBe(status);
    for (const cache of caches) expect([cache, await evicted(cache)]).toEqual([cache, 1]);
    expect(await asks[0]?.(), "is read again").toBe(status);
  },
);

test("limits.token_cache_bytes: a full cache evicts its oldest token, which is verified again", async () => {
  const route = checks.routes().byId("open");
  if (!route) throw new Error("no route");
  const token = () => checks.token({ aud: "https://open.test", filler: "x".repeat(11_000) });
  const verify = (text: string) => checks.externalTokens.verify(text, route);
  const before = await evicted("external_token");
  const first = await token();
  await verify(first);
  expect(verify(first)).not.toBeInstanceOf(Promise);
  // 15 KB each, plus overhead.
  for (let count = 0; count < 60; count += 1) expect(await verify(await token())).toMatchObject({ ok: true });
  expect(await evicted("external_token")).toBeGreaterThan(before);
  const again = verify(first);
  expect(again).toBeInstanceOf(Promise);
  expect(await again).toMatchObject({ ok: true });
});

test("a bounded cache keeps the most recently used entries, reports evicted ones, and logs no warning", () => {
  const warned = vi.spyOn(process, "emitWarning");
  const gone: [string, string][] = [];
  const cache = boundedCache<string, number>(3, { dispose: (_value, key, why) => gone.push([key, why]) });
  for (const key of ["a", "b", "c"]) cache.set(key, 1);
  cache.get("a");
  cache.set("d", 1);
  cache.set("a", 2);
  cache.delete("c");
  expect([...cache.keys()]).toEqual(["a", "d"]);
  expect(gone).toEqual([
    ["b", "evict"],
    ["a", "set"],
    ["c", "delete"],
  ]);
  for (let n = 0; n < 10_000; n++) cache.set(`k${n}`, n);
  expect(cache.size).toBe(3);
  expect([...cache.keys()]).toEqual(["k9999", "k9998", "k9997"]);
  cache.clear();
  const one = boundedCache<string, number>(1, { ttl: 60_000 });
  for (const key of ["a", "b"]) one.set(key, 1);
  expect([...one.keys()]).toEqual(["b"]);
  const many = boundedCache<string, true>(100_000, { ttl: 60_000 });
  for (let n = 0; n < 150_000; n++) many.set(String(n), true);
  expect(many.size).toBe(100_000);
  expect([many.has("49999"), many.has("50000")]).toEqual([false, true]);
  expect(warned).not.toHaveBeenCalled();
});
