import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { generateKeyPair, SignJWT } from "jose";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createExternalTokens } from "../../src/external-tokens/create-external-tokens.ts";
import type { ExternalTokens } from "../../src/external-tokens/external-tokens.ts";
import { createUpstreamTokens } from "../../src/upstream-tokens/create-upstream-tokens.ts";
import { type Answer, startChecks, strangersKey } from "../ext-authz/start-checks.ts";
import { changes } from "../store/changes.ts";
import { scraped } from "../support/scraped.ts";

const url = "https://mcp.test/";
let issuer: { readonly url: string; close(): void };
let checks: Awaited<ReturnType<typeof startChecks>>;
let externalTokens: ExternalTokens;
/** What the database waits for before it reads grants. */
let database: PromiseWithResolvers<void>;
/** If set, an answer about a grant is read, and arrives later. */
let delayed: { readonly read: PromiseWithResolvers<void>; readonly arrives: Promise<void> } | undefined;
let healthy = true;

/** A trusted issuer whose keys never arrive. */
async function startIssuer() {
  const server = createServer(() => {});
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}

beforeAll(async () => {
  issuer = await startIssuer();
  checks = await startChecks(
    `
issuer: https://auth.test
check: {deadline: 1}
sign_in: {providers: [{issuer: https://idp.test, client_id: x}]}
policy: {allow: {or: [{accept: true}]}}
external_tokens:
  trusted_issuers: [{id: corp, issuer: "${issuer.url}", audience: [api://mcp], algorithms: [ES256]}]
routes:
  - {id: a, name: A, from: https://mcp.test, to: http://127.0.0.1:1, mcp: {server: {upstream_auth: none}}}
  - {id: b, name: B, from: https://other.test, to: https://upstream.test, mcp: {server: {}}}
`,
    {
      fetch,
      externalTokens: {
        verify: (...asked) => externalTokens.verify(...asked),
        forSession: (...asked) => externalTokens.forSession(...asked),
      },
    },
  );
  const { store } = checks;
  const records = store.authorizationServerRecords;
  externalTokens = createExternalTokens({
    ...checks,
    fetch,
    store: {
      ...store,
      notifications: { ...store.notifications, healthy: () => healthy },
      authorizationServerRecords: {
        ...records,
        async grantIsLive(id: string) {
          await database.promise;
          const isLive = await records.grantIsLive(id);
          delayed?.read.resolve();
          await delayed?.arrives;
          return isLive;
        },
      },
    },
  });
});
afterAll(async () => {
  externalTokens.close();
  await checks.close();
  issuer.close();
});
beforeEach(() => {
  database = Promise.withResolvers();
  healthy = true;
});

/** Waits until a caller is served: callers of the test before may still be waiting. */
const served = (ask: () => Promise<Answer>) =>
  expect.poll(async () => (await ask()).status, { timeout: 60_000 }).toBe(0);

async function asks(grantId?: string) {
  const headers = { authorization: `Bearer ${await checks.token({}, grantId ? { grantId } : {})}` };
  return () => checks.ask({ url, headers });
}
const misses = async () =>
  (await scraped(checks.metrics, "cache_lookups_total"))['cache="external_token",result="miss"'] ?? 0;

/**
 * More callers than can wait, while the database does not answer.
 * @param key what their tokens are signed with; default: our own
 * @returns one of them, and the answers
 */
async function crowd(key?: CryptoKey) {
  const one = await asks("crowd");
  // The same signature is not verified twice at a time: every caller has a token of its own.
  const tokens = await Promise.all(
    Array.from({ length: 400 }, (_, index) =>
      checks.token({ jti: `jti-${index}` }, { grantId: "crowd", noGrant: true, key }),
    ),
  );
  const answers = tokens.map((token) => checks.ask({ url, headers: { authorization: `Bearer ${token}` } }));
  return { one, answers };
}

const errorsOf = (answers: readonly Answer[]) => new Set(answers.map(({ body }) => JSON.parse(body).error));

describe("more callers than can be verified", () => {
  test("are turned away at once, with a time to come back", async () => {
    const before = await misses();
    const { answers } = await crowd();
    const all = await Promise.all(answers);
    const turnedAway = all.filter(({ body }) => JSON.parse(body).error === "too_many_callers");
    // The others have waited until the deadline of the check.
    expect(errorsOf(all)).toEqual(new Set(["too_many_callers", "deadline_exceeded"]));
    for (const { status, headers } of all) {
      expect(status).toBe(503);
      expect(Number(headers["retry-after"])).toBeGreaterThanOrEqual(1);
    }
    expect(turnedAway.length).toBeGreaterThan(50);
    expect((await misses()) - before).toBe(all.length - turnedAway.length);
    database.resolve();
  });

  test("are turned away before their signature is verified", async () => {
    const { answers } = await crowd();
    const forged = await checks.token({}, { grantId: "crowd", noGrant: true, key: await strangersKey() });
    const ask = () => checks.ask({ url, headers: { authorization: `Bearer ${forged}` } });
    expect((await ask()).status).toBe(503);
    database.resolve();
    await Promise.all(answers);
    await expect.poll(async () => (await ask()).status, { timeout: 60_000 }).toBe(401);
  });

  test("do not keep out tokens of other issuers, and malformed ones are rejected", async () => {
    const { answers } = await crowd();
    const malformed = await checks.ask({ url, headers: { authorization: "Bearer not-a-token" } });
    expect(malformed.status).toBe(401);
    const { privateKey } = await generateKeyPair("ES256");
    const unknown = await new SignJWT({ iss: "https://unknown.test", aud: "api://mcp" })
      .setProtectedHeader({ alg: "ES256", kid: "unknown" })
      .setExpirationTime("10m")
      .sign(privateKey);
    const answer = await checks.ask({ url, headers: { authorization: `Bearer ${unknown}` } });
    expect(answer.status).toBe(401);
    database.resolve();
    await Promise.all(answers);
  });

  test("do not delay callers that are known", async () => {
    database.resolve();
    const known = await asks();
    await served(known);
    database = Promise.withResolvers();
    const { answers } = await crowd();
    expect((await known()).status).toBe(0);
    database.resolve();
    await Promise.all(answers);
  });

  test("are served when the database answers again", async () => {
    const { one, answers } = await crowd();
    await Promise.all(answers);
    database.resolve();
    await served(one);
  });

  test("and while caches are not trusted, the same holds for known callers: nobody is served without the database", async () => {
    database.resolve();
    const known = await asks();
    await served(known);
    database = Promise.withResolvers();
    healthy = false;
    const { answers } = await crowd();
    expect((await known()).status).toBe(503);
    database.resolve();
    await Promise.all(answers);
    await served(known);
  });
});

test("tokens of an issuer whose keys do not arrive take no place from others", async () => {
  database.resolve();
  const { privateKey } = await generateKeyPair("ES256");
  const foreign = await Promise.all(
    Array.from({ length: 100 }, (_, index) =>
      new SignJWT({ iss: issuer.url, aud: "api://mcp", sub: `s-${index}` })
        .setProtectedHeader({ alg: "ES256", kid: "unknown" })
        .setExpirationTime("10m")
        .sign(privateKey),
    ),
  );
  const answers = foreign.map((token) => checks.ask({ url, headers: { authorization: `Bearer ${token}` } }));
  await served(await asks());
  for (const { status } of await Promise.all(answers)) expect(status).toBe(503);
});

test("a caller that joins the verification of another is not accepted on an answer of before a revocation", async () => {
  database.resolve();
  await served(await asks());
  const grantId = "revoked meanwhile";
  const token = await checks.token({}, { grantId });
  const route = checks.routes().byId("a");
  if (!route) throw new Error("no route");
  const arrives = Promise.withResolvers<void>();
  const read = Promise.withResolvers<void>();
  delayed = { read, arrives: arrives.promise };
  const first = externalTokens.verify(token, route);
  await read.promise;
  delayed = undefined;
  const { next, stop } = changes(checks.store, (change) => change.table === "grant");
  await checks.store.authorizationServerRecords.revokeGrant(grantId, { action: "grant.revoked" });
  await next;
  stop();
  const joined = externalTokens.verify(token, route);
  arrives.resolve();
  await first;
  expect(await joined).toMatchObject({ ok: false, rejection: "revoked" });
});

test("a person whose calls come faster than their connection is read takes one place", async () => {
  database.resolve();
  await served(await asks());
  const route = checks.routes().byId("b");
  if (!route) throw new Error("no route");
  const reading = Promise.withResolvers<void>();
  const { store, admission } = checks;
  const tokens = createUpstreamTokens({
    ...checks,
    refreshAheadEveryMs: 0,
    store: {
      ...store,
      upstreamTokens: {
        ...store.upstreamTokens,
        async findWithRequiredScopes(key) {
          if (key.userId === "idp/slow") await reading.promise;
          return store.upstreamTokens.findWithRequiredScopes(key);
        },
      },
    },
  });
  const calls = Array.from({ length: 100 }, () => tokens.find({ userId: "idp/slow", kind: "person" }, route));
  // Others have a place.
  expect(await admission.run(async () => "begun")).toBe("begun");
  reading.resolve();
  await Promise.all(calls);
  await tokens.close();
});
