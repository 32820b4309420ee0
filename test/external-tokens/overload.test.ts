import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { generateKeyPair, SignJWT } from "jose";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createExternalTokens } from "../../src/external-tokens/create-external-tokens.ts";
import type { ExternalTokens } from "../../src/external-tokens/external-tokens.ts";
import { type Answer, startChecks } from "../ext-authz/start-checks.ts";
import { scraped } from "../support/scraped.ts";

const url = "https://mcp.test/";
let issuer: { readonly url: string; close(): void };
let checks: Awaited<ReturnType<typeof startChecks>>;
let externalTokens: ExternalTokens;
/** What the database's answers about grants wait for. */
let database: PromiseWithResolvers<void>;
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
routes: [{id: a, name: A, from: https://mcp.test, to: http://127.0.0.1:1, mcp: {server: {upstream_auth: none}}}]
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
          return records.grantIsLive(id);
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

/** More callers than can wait, while the database does not answer. @returns callers whom nobody knows, and the answers so far */
async function crowd() {
  const one = await asks("crowd");
  // The same signature is not verified twice at a time: every caller has a token of its own.
  const tokens = await Promise.all(
    Array.from({ length: 400 }, (_, index) =>
      checks.token({ jti: `jti-${index}` }, { grantId: "crowd", noGrant: true }),
    ),
  );
  const answers = tokens.map((token) => checks.ask({ url, headers: { authorization: `Bearer ${token}` } }));
  return { one, answers };
}

describe("more callers than can be verified", () => {
  test("are turned away at once, before their signature is verified, with a time to come back", async () => {
    const before = await misses();
    const { answers } = await crowd();
    const all = await Promise.all(answers);
    const turnedAway = all.filter(({ body }) => JSON.parse(body).error === "overloaded");
    // The others have waited until the deadline of the check.
    expect(new Set(all.map(({ body }) => JSON.parse(body).error))).toEqual(
      new Set(["overloaded", "deadline_exceeded"]),
    );
    for (const { status, headers } of all) {
      expect(status).toBe(503);
      expect(Number(headers["retry-after"])).toBeGreaterThanOrEqual(1);
    }
    expect(turnedAway.length).toBeGreaterThan(50);
    expect((await misses()) - before).toBe(all.length - turnedAway.length);
    database.resolve();
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
