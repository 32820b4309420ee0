import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Answer, startChecks } from "../ext-authz/start-checks.ts";
import { scraped } from "../support/scraped.ts";
import {
  type RotatingAuthorizationServer,
  rotatingAuthorizationServer,
} from "../system/faults/rotating-authorization-server.ts";

/** Enough that most have to wait: ten are refreshed at a time. */
const crowd = 120;
/** The status of a check that was allowed. */
const allowed = 0;
const url = "https://mcp.test/files";
const upstream = "https://upstream.test/mcp";

describe("tokens that expire together", () => {
  let server: RotatingAuthorizationServer;
  let checks: Awaited<ReturnType<typeof startChecks>>;
  let tokens: string[];
  const userOf = (index: number) => `idp/user${index}`;
  beforeEach(async () => {
    server = await rotatingAuthorizationServer({ lifeSeconds: 3_600 });
    const endpoint = `{auth_url: "${server.url}/authorize", token_url: "${server.url}/token", auth_style: client_secret_basic}`;
    checks = await startChecks(`
issuer: https://auth.test
check: {deadline: 0.5}
upstream_oauth: {timeout: 60s}
sign_in: {providers: [{issuer: https://idp.test, client_id: x, id: idp}]}
policy: {allow: {or: [{accept: true}]}}
routes:
  - id: files
    from: ${url}
    to: ${upstream}
    mcp:
      server:
        upstream_oauth2: {client_id: ${server.clientId}, client_secret: ${server.clientSecret}, endpoint: ${endpoint}}
`);
    tokens = [];
    for (let index = 0; index < crowd; index++) {
      const userId = userOf(index);
      await checks.signedIn({ userId, subject: `user${index}` });
      tokens.push(await checks.token({ sub: userId, aud: url }));
      await connect(index, 0.001);
    }
    // As in operation, where clients have called before: one at a time, since a busy store fails some of many first checks.
    for (const token of tokens) await checks.externalTokens.verify(token, routeOf());
  });
  afterEach(async () => {
    await checks.close();
    await server.close();
  });

  const routeOf = () => {
    const route = checks.routes().byId("files");
    if (!route) throw new Error("no route");
    return route;
  };
  async function connect(index: number, lifeSeconds?: number) {
    const userId = userOf(index);
    await checks.store.upstreamTokens.put(
      {
        userId,
        routeId: "files",
        upstream,
        issuer: server.url,
        tokenEndpoint: `${server.url}/token`,
        clientId: server.clientId,
        tokenType: "Bearer",
        scopes: [],
        ...server.issue(userId, lifeSeconds),
      },
      { action: "upstream_token.obtained" },
    );
  }
  const ask = (index: number) => checks.ask({ url, headers: { authorization: `Bearer ${tokens[index]}` } });
  const everybody = () => Promise.all(tokens.map((_, index) => ask(index)));
  const retryAfter = ({ headers }: Answer) => Number(headers["retry-after"]);
  const waiting = async () => (await scraped(checks.metrics, "upstream_token_refreshes_waiting"))[""];
  /** Until all but those that are being refreshed wait: a busy store fails some of many first reads. */
  const allWaiting = (count: number) =>
    expect.poll(async () => [await everybody(), await waiting()][1], { timeout: 60_000 }).toBe(count - 10);
  const servedAll = () =>
    expect
      .poll(async () => (await everybody()).filter(({ status }) => status !== allowed), { timeout: 60_000 })
      .toEqual([]);

  it("are refreshed once each; a retry that comes too early gets a Retry-After that grows with the queue", async () => {
    const answering = Promise.withResolvers<void>();
    server.behave({ kind: "waits", until: answering.promise });
    await connect(0);
    await allWaiting(crowd - 1);
    const others = [];
    const told: number[][] = [];
    for (let round = 0; round < 3; round++) {
      const again = (await everybody()).map(retryAfter);
      told.push(again);
      expect(Math.min(...again.slice(1))).toBeGreaterThanOrEqual(1);
      expect(Math.max(...again.slice(1))).toBeLessThanOrEqual(60);
      expect(new Set(again).size).toBeGreaterThan(2);
      others.push((await ask(0)).status);
    }
    // Nothing is read for those who wait.
    expect(others).toEqual([allowed, allowed, allowed]);
    expect(await waiting()).toBe(crowd - 1 - 10);
    answering.resolve();
    server.behave({ kind: "well" });
    await servedAll();
    expect(server.counts()).toMatchObject({ refreshes: crowd - 1, revokedByReuse: 0 });
    expect(await waiting()).toBe(0);
    const events = await checks.store.auditEvents({ action: "upstream_token.refreshed", limit: crowd });
    const order = events.map(({ userId = "" }) => Number(userId.replace("idp/user", "")));
    const toldTo = (some: number[]) => sum(told.flatMap((again) => some.map((index) => again[index] ?? 0)));
    // The first ten were being refreshed.
    expect(toldTo(order.slice(-10))).toBeGreaterThan(toldTo(order.slice(10, 20)));
  });

  it("are refreshed without their clients, in order of arrival", async () => {
    const answering = Promise.withResolvers<void>();
    server.behave({ kind: "waits", until: answering.promise });
    await allWaiting(crowd);
    answering.resolve();
    await expect.poll(() => server.counts().refreshes, { timeout: 60_000 }).toBe(crowd);
    await expect.poll(waiting).toBe(0);
    await servedAll();
    expect(server.counts().refreshes).toBe(crowd);
  });

  it("leave the queue when they are replaced: a consent, or another replica's refresh", async () => {
    const answering = Promise.withResolvers<void>();
    server.behave({ kind: "waits", until: answering.promise });
    await allWaiting(crowd);
    const last = crowd - 1;
    expect((await ask(last)).status).toBe(503);
    await connect(last);
    await expect.poll(async () => (await ask(last)).status).toBe(allowed);
    expect((await ask(last - 1)).status).toBe(503);
    answering.resolve();
  });

  it("are not read again when another replica has refreshed them and no check waits for them", async () => {
    const answering = Promise.withResolvers<void>();
    server.behave({ kind: "waits", until: answering.promise });
    await allWaiting(crowd);
    const reads = async () =>
      (await scraped(checks.metrics, "store_duration_seconds_count"))[
        'operation="upstream_token.find_with_required_scopes"'
      ];
    const before = await reads();
    for (let index = crowd / 2; index < crowd; index++) await connect(index);
    await expect.poll(waiting, { timeout: 60_000 }).toBeLessThan(crowd / 2);
    expect(await reads()).toBe(before);
    answering.resolve();
  });

  it("do not burden an authorization server that fails: one at a time tries it, and all are served when it is back", async () => {
    server.behave({ kind: "status", status: 429, retryAfter: 1 });
    for (let round = 0; round < 3; round++)
      expect(new Set((await everybody()).map(({ status }) => status))).toEqual(new Set([503]));
    expect(server.counts().failed).toBeLessThan(crowd / 2);
    server.behave({ kind: "well" });
    await servedAll();
    expect(server.counts().refreshes).toBe(crowd);
  });
});

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
