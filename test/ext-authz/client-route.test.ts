import { randomBytes } from "node:crypto";
import { decodeJwt } from "jose";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { startChecks } from "./start-checks.ts";

const yaml = `
issuer: https://auth.test
sign_in: {providers: [{issuer: https://idp.test, client_id: x}]}
policy: {allow: {or: [{accept: true}]}}
routes:
  - {id: app, name: App, from: https://app.test, to: http://127.0.0.1:1, mcp: {client: {}}}
  - {id: narrow, name: Narrow, from: https://narrow.test, to: http://127.0.0.1:2, mcp: {client: {routes: [https://b.test]}}}
  - {id: closed, name: Closed, from: https://closed.test, to: http://127.0.0.1:3, mcp: {client: {}}, policy: {allow: {or: [{email: {is: bob@example.com}}]}}}
  - {id: lone, name: Lone, from: https://lone.test, to: http://127.0.0.1:8, mcp: {client: {routes: [https://bobs.test]}}}
  - {id: a, name: A, from: https://a.test, to: http://127.0.0.1:4, mcp: {server: {upstream_auth: none}}}
  - {id: b, name: B, from: https://b.test/v1, to: http://127.0.0.1:5, mcp: {server: {upstream_auth: none}}}
  - {id: c, name: C, from: https://b.test, to: http://127.0.0.1:6, mcp: {server: {upstream_auth: none}}}
  - {id: bobs, name: Bobs, from: https://bobs.test, to: http://127.0.0.1:7, mcp: {server: {upstream_auth: none}}, policy: {allow: {or: [{email: {is: bob@example.com}}]}}}
`;
const sessionIds = Object.fromEntries(
  ["app.test", "narrow.test", "closed.test", "lone.test"].map((host) => [
    host,
    randomBytes(32).toString("base64url"),
  ]),
);
const session = (host = "app.test") => `__Host-mcp_session=${sessionIds[host]}`;
const cookieFor = (host?: string) => `theme=dark; ${session(host)}; lang=en`;
const cookie = cookieFor();
let checks: Awaited<ReturnType<typeof startChecks>>;
beforeAll(async () => {
  checks = await startChecks(yaml);
  for (const [host, id] of Object.entries(sessionIds)) {
    const expiresAt = new Date(Date.now() + 3_600_000);
    await checks.store.browserSessions.create({
      id,
      host,
      userId: "idp/alice",
      createdAt: new Date(),
      expiresAt,
    });
  }
});
afterAll(() => checks.close());

const tokenOf = (answer: { set: Record<string, string> }) =>
  answer.set.authorization?.replace("Bearer ", "") ?? "";

/** Resolves when a change notification of a person's sessions has arrived. */
const changed = () =>
  new Promise<void>((resolve) => {
    checks.store.notifications.subscribe(({ table }) => table === "browser_session" && resolve());
  });

test("a browser without a session is redirected to sign-in, and back to its page", async () => {
  const answer = await checks.ask({
    method: "GET",
    url: "https://app.test/x?y=1",
    headers: { accept: "text/html,*/*" },
  });
  expect(answer.status).toBe(302);
  expect(answer.headers.location).toBe("https://app.test/.pomerium/sign_in?return_to=%2Fx%3Fy%3D1");
  expect(answer.headers["cache-control"]).toBe("no-store");
});

test.each([
  ["a script", { accept: "application/json" }, "GET"],
  ["a form", { accept: "text/html" }, "POST"],
  ["a fetch by a page's script", { accept: "text/html", "sec-fetch-mode": "cors" }, "GET"],
])("%s without a session gets a readable 401", async (_name, headers, method) => {
  const answer = await checks.ask({ method, url: "https://app.test/x", headers: { ...headers } });
  expect(answer.status).toBe(401);
  const said = { error: "unauthorized", error_description: "Unauthorized: sign in with a browser first" };
  expect(JSON.parse(answer.body)).toMatchObject(said);
  expect(answer.headers["access-control-allow-origin"]).toBeUndefined();
});

test.each([
  ["without a session", "app.test", {}, 401, "unauthorized", 'href="https://app.test"'],
  ["that policy denies", "closed.test", { cookie: cookieFor("closed.test") }, 403, "not_allowed", "account"],
])(
  "a form that a person posts %s is answered with a page",
  async (_which, host, more, status, code, fact) => {
    const answer = await checks.ask({
      method: "POST",
      url: `https://${host}/x?back=never-shown`,
      headers: {
        accept: "text/html,*/*;q=0.8",
        "sec-fetch-mode": "navigate",
        "x-request-id": "r-8",
        ...more,
      },
    });
    expect(answer.status).toBe(status);
    expect(answer.headers["content-type"]).toBe("text/html; charset=utf-8");
    for (const text of [`<code>${code}</code>`, fact, "<code>r-8</code>"])
      expect(answer.body).toContain(text);
    expect(answer.body).not.toContain("never-shown");
  },
);

test("the application gets an external token for the MCP routes this person may reach, never for its own route", async () => {
  const answer = await checks.ask({
    method: "GET",
    url: "https://app.test/x",
    headers: { cookie, authorization: "Bearer something-else" },
  });
  expect(answer.status).toBe(0);
  const identified = await checks.externalTokens.identify(tokenOf(answer));
  expect(identified).toMatchObject({
    ok: true,
    audience: ["https://a.test", "https://b.test/v1", "https://b.test"],
    caller: { userId: "idp/alice", email: "alice@example.com", groups: ["staff"], refreshable: false },
  });
  expect(
    await checks.verifyAssertion(answer.set["x-pomerium-jwt-assertion"] ?? "", "https://app.test"),
  ).toMatchObject({
    sub: "idp/alice",
  });
});

test("the gateway's cookies are removed, the application's own pass", async () => {
  const answer = await checks.ask({ method: "GET", url: "https://app.test/x", headers: { cookie } });
  expect(answer.set.cookie).toBe("theme=dark; lang=en");
  const only = await checks.ask({
    method: "GET",
    url: "https://app.test/x",
    headers: { cookie: session() },
  });
  expect(only.removed).toContain("cookie");
});

test.each(["app.test", "lone.test"])(
  "the caller's Authorization never reaches the application, with or without a minted token (%s)",
  async (host) => {
    const basic = `Basic ${Buffer.from("alice:secret").toString("base64")}`;
    const headers = { cookie: cookieFor(host), authorization: basic };
    const answer = await checks.ask({ method: "GET", url: `https://${host}/x`, headers });
    expect(answer.status).toBe(0);
    const replaced = answer.set.authorization?.startsWith("Bearer ey") ?? false;
    expect(replaced).toBe(host === "app.test");
    expect(answer.removed.includes("authorization")).toBe(!replaced);
  },
);

test("the next request gets the same token, which is valid for those routes", async () => {
  const ask = () => checks.ask({ method: "GET", url: "https://app.test/x", headers: { cookie } });
  const token = tokenOf(await ask());
  expect(tokenOf(await ask())).toBe(token);
  const headers = { authorization: `Bearer ${token}` };
  expect((await checks.ask({ url: "https://a.test/", headers })).status).toBe(0);
  expect((await checks.ask({ url: "https://b.test/v1", headers })).status).toBe(0);
  expect((await checks.ask({ url: "https://bobs.test/", headers })).status).toBe(401);
});

test("it ends with the session, whatever the token lifetime, and is reused until then", async () => {
  const id = randomBytes(32).toString("base64url");
  const soon = Math.floor(Date.now() / 1000) + 600;
  await checks.store.browserSessions.create({
    id,
    host: "app.test",
    userId: "idp/alice",
    createdAt: new Date(),
    expiresAt: new Date(soon * 1000),
  });
  const headers = { cookie: `__Host-mcp_session=${id}` };
  const ask = async () => tokenOf(await checks.ask({ method: "GET", url: "https://app.test/x", headers }));
  const token = await ask();
  expect(decodeJwt(token).exp).toBe(soon);
  checks.clock.offset = 400_000;
  expect(await ask()).toBe(token);
  checks.clock.offset = 0;
});

describe("the audit trail contains every minted token", () => {
  const narrow = async (nonce: number) => {
    // A change of the person's record leads to a new token.
    const alice = await checks.store.signInSessions.find("idp/alice");
    const heard = changed();
    await checks.store.signInSessions.put({ ...alice!, name: `Alice ${nonce}` });
    await heard;
    const headers = { cookie: cookieFor("narrow.test") };
    const ask = () => checks.ask({ method: "GET", url: "https://narrow.test/", headers });
    const answers = [await ask(), await ask()];
    expect(answers.map(({ status }) => status)).toEqual([0, 0]);
    expect(new Set(answers.map(tokenOf)).size).toBe(1);
    // The assertion contains the person's facts; the token only contains the user id.
    expect(decodeJwt(tokenOf(answers[0]!))).not.toHaveProperty("name");
    return answers.map(({ set }) => decodeJwt(set["x-pomerium-jwt-assertion"] ?? "").name);
  };
  afterEach(() => {
    vi.restoreAllMocks();
  });

  test("once, not for every request", async () => {
    const audit = vi.spyOn(checks.store, "audit");
    expect(await narrow(1)).toEqual(["Alice 1", "Alice 1"]);
    expect(audit).toHaveBeenCalledTimes(1);
    await audit.mock.results[0]?.value;
    const events = await checks.store.auditEvents({ action: "external_token.issued", limit: 100 });
    expect(events.at(-1)).toMatchObject({
      userId: "idp/alice",
      clientId: "https://narrow.test",
      routeId: "narrow",
    });
  });

  test("without delaying or denying a request when the database fails", async () => {
    const audit = vi.spyOn(checks.store, "audit").mockReturnValueOnce(new Promise(() => {}));
    expect(await narrow(2)).toEqual(["Alice 2", "Alice 2"]);
    audit.mockRejectedValueOnce(new Error("away"));
    expect(await narrow(3)).toEqual(["Alice 3", "Alice 3"]);
    expect(checks.log.join()).toContain("cannot write a client route's token to the audit trail");
  });
});

test("mcp.client.routes narrows it", async () => {
  const answer = await checks.ask({
    method: "GET",
    url: "https://narrow.test/",
    headers: { cookie: cookieFor("narrow.test") },
  });
  expect(await checks.externalTokens.identify(tokenOf(answer))).toMatchObject({
    audience: ["https://b.test"],
  });
});

test("policy applies to client routes", async () => {
  const answer = await checks.ask({
    method: "GET",
    url: "https://closed.test/",
    headers: { cookie: cookieFor("closed.test"), accept: "text/html" },
  });
  expect(answer.status).toBe(403);
});

test("sign-out ends the token, cached or not", async () => {
  const token = tokenOf(await checks.ask({ method: "GET", url: "https://app.test/x", headers: { cookie } }));
  const ask = () => checks.ask({ url: "https://a.test/", headers: { authorization: `Bearer ${token}` } });
  expect((await ask()).status).toBe(0);
  const heard = changed();
  await checks.store.browserSessions.end(sessionIds["app.test"] ?? "");
  await heard;
  const answer = await ask();
  expect(answer.status).toBe(401);
  expect(JSON.parse(answer.body).error_description).toContain("revoked");
});

test("a session of one host is not valid on another", async () => {
  const answer = await checks.ask({
    method: "GET",
    url: "https://narrow.test/",
    headers: { cookie: cookieFor("closed.test") },
  });
  expect(answer.status).toBe(401);
});
