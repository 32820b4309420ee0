import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK, generateKeyPair, type JWK, SignJWT } from "jose";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import type { Route } from "../../src/model/route.ts";
import { startChecks } from "../ext-authz/start-checks.ts";
import { changes } from "../store/changes.ts";
import { upstreamToken } from "../store/samples.ts";
import { askForDelegation } from "../support/ask-for-delegation.ts";
import { scraped } from "../support/scraped.ts";

/** A foreign issuer on loopback, with discovery and a key set that can change or be unavailable. */
async function startIssuer() {
  let keys: JWK[] = [];
  let asked = 0;
  const server: Server = createServer((request, response) => {
    response.setHeader("content-type", "application/json");
    if (request.url === "/.well-known/openid-configuration") {
      response.end(JSON.stringify({ issuer: url, jwks_uri: `${url}/keys` }));
    } else {
      asked++;
      response.end(JSON.stringify({ keys }));
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}`;
  return {
    url,
    asked: () => asked,
    async addKey(kid: string) {
      const { privateKey, publicKey } = await generateKeyPair("RS256");
      keys = [...keys, { ...(await exportJWK(publicKey)), kid, alg: "RS256" }];
      const sign = (claims: Record<string, unknown> = {}, header: Record<string, unknown> = {}) =>
        new SignJWT({
          iss: url,
          aud: "api://mcp",
          sub: "s-1",
          exp: Math.floor(Date.now() / 1000) + 600,
          upn: "carol",
          mail: "carol@example.com",
          roles: ["ops"],
          tenant: "t1",
          "kubernetes.io": { namespace: "prod" },
          ...claims,
        })
          .setProtectedHeader({ alg: "RS256", kid, ...header })
          .sign(privateKey);
      return sign;
    },
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

const yaml = (foreign: string) => `
issuer: https://auth.test
sign_in: {providers: [{issuer: https://idp.test, client_id: x}]}
policy: {allow: {or: [{accept: true}]}}
external_tokens:
  trusted_issuers:
    - id: corp
      issuer: ${foreign}
      audience: [api://mcp, https://a.test]
      algorithms: [RS256]
      claims: {user: upn, email: mail, groups: roles}
      trust_email: true
      required_claims: {tenant: [t1, t2], kubernetes.io/namespace: prod}
routes:
  - {id: a, name: A, from: https://a.test, to: http://127.0.0.1:1, mcp: {server: {upstream_auth: none}}}
  - {id: b, name: B, from: https://b.test, to: http://127.0.0.1:2, mcp: {server: {upstream_auth: none}}}
`;
let foreign: Awaited<ReturnType<typeof startIssuer>>;
let checks: Awaited<ReturnType<typeof startChecks>>;
let a: Route;
let b: Route;
async function start() {
  foreign = await startIssuer();
  checks = await startChecks(yaml(foreign.url), { fetch });
  a = checks.routes().byId("a")!;
  b = checks.routes().byId("b")!;
}
async function stop() {
  await checks.close();
  await foreign.close();
}
const revoked = (grantId: string) => ({
  ok: false,
  rejection: "revoked",
  issuedTo: { userId: "idp/alice", clientId: "client-1", grantId },
});
const verify = (token: string, route: Route) => checks.externalTokens.verify(token, route);

describe("trusted foreign issuers", () => {
  let sign: Awaited<ReturnType<typeof foreign.addKey>>;
  beforeAll(async () => {
    await start();
    sign = await foreign.addKey("k1");
  });
  afterAll(stop);
  beforeEach(() => {
    checks.clock.offset = 0;
  });

  test("claims are mapped, and the user id contains the issuer", async () => {
    expect(await verify(await sign(), b)).toMatchObject({
      ok: true,
      caller: {
        userId: "corp/carol",
        email: "carol@example.com",
        groups: ["ops"],
        kind: "foreign",
        refreshable: false,
        claims: { tenant: "t1" },
      },
    });
  });

  test("a single group counts as a list of one, and a number as its text", async () => {
    for (const [roles, groups] of [
      ["ops", ["ops"]],
      [
        [7, "x", null],
        ["7", "x"],
      ],
    ])
      expect(await verify(await sign({ roles }), b)).toMatchObject({ ok: true, caller: { groups } });
  });

  test("an audience that names a route is valid for that route only", async () => {
    const token = await sign({ aud: "https://a.test" });
    expect(await verify(token, a)).toMatchObject({ ok: true });
    const issuedTo = { userId: "corp/carol", clientId: "corp" };
    expect(await verify(token, b)).toEqual({ ok: false, rejection: "wrong_audience", issuedTo });
  });

  test.each<[string, string, Record<string, unknown>, Record<string, unknown>]>([
    ["another audience", "wrong_audience", { aud: "api://else" }, {}],
    ["only an audience that is not configured", "wrong_audience", { aud: ["https://b.test"] }, {}],
    ["an invalid audience", "wrong_audience", { aud: 5 }, {}],
    ["no expiry", "missing_claim", { exp: undefined }, {}],
    ["an expiry in the past", "expired", { exp: 1 }, {}],
    ["no user", "missing_claim", { upn: undefined }, {}],
    ["an empty user", "missing_claim", { upn: "" }, {}],
    ["a required claim with another value", "missing_claim", { tenant: "t3" }, {}],
    ["a missing nested required claim", "missing_claim", { "kubernetes.io": {} }, {}],
    ["a logout token's type", "wrong_type", {}, { typ: "logout+jwt" }],
    ["a binding to a key", "wrong_type", { cnf: { jkt: "x" } }, {}],
    ["another issuer", "unknown_issuer", { iss: "https://evil.test" }, {}],
  ])("rejected: %s (%s)", async (_name, refusal, claims, header) => {
    expect(await verify(await sign(claims, header), a)).toMatchObject({ ok: false, rejection: refusal });
  });

  test("rejected: its tokens are never treated as the gateway's", async () => {
    expect(await verify(await sign({ iss: "https://auth.test" }), a)).toEqual({
      ok: false,
      rejection: "bad_signature",
    });
  });

  test("keys rotate without a restart", async () => {
    expect(await verify(await sign(), a)).toMatchObject({ ok: true });
    const signNew = await foreign.addKey("k2");
    checks.clock.offset = 31_000;
    expect(await verify(await signNew(), a)).toMatchObject({ ok: true });
  });

  test("unknown keys lead to a limited number of fetches", async () => {
    checks.clock.offset = 100_000;
    await verify(await sign({}, { kid: "nobody-0" }), a);
    const before = foreign.asked();
    for (const kid of ["nobody-1", "nobody-2", "nobody-3"]) {
      expect(await verify(await sign({}, { kid }), a)).toEqual({ ok: false, rejection: "bad_signature" });
    }
    expect(foreign.asked()).toBe(before);
  });

  test("tokens with known keys stay valid while the issuer is down", async () => {
    expect(await verify(await sign(), a)).toMatchObject({ ok: true });
    await foreign.close();
    checks.clock.offset = 300_000;
    expect(await verify(await sign({ jti: "new" }), a)).toMatchObject({ ok: true });
  });
});

describe("an issuer that is down from the start", () => {
  afterEach(stop);
  test("is not the client's fault: 503 with Retry-After", async () => {
    await start();
    const sign = await foreign.addKey("k1");
    await foreign.close();
    const answer = await checks.ask({
      url: "https://a.test/",
      headers: { authorization: `Bearer ${await sign()}` },
    });
    expect(answer.status).toBe(503);
    expect(answer.headers["retry-after"]).toBe("5");
    expect(answer.headers["www-authenticate"]).toBeUndefined();
  });
});

describe("the cache of verified tokens", () => {
  beforeAll(start);
  afterAll(stop);

  test("is not used after a configuration change, and counts its hits and misses", async () => {
    const sign = await foreign.addKey("k1");
    const token = await sign();
    const lookUps = async () => {
      const counted = await scraped(checks.metrics, "cache_lookups_total");
      return ["hit", "miss"].map((result) => counted[`cache="external_token",result="${result}"`] ?? 0);
    };
    expect(await verify(token, a)).toMatchObject({ ok: true });
    expect(await lookUps()).toEqual([0, 1]);
    // The listener's first notification empties the cache once more.
    await vi.waitUntil(async () => (await verify(token, a)).ok && (await lookUps())[0] === 1, 60_000);
    const [, missed = 0] = await lookUps();
    await checks.reload(yaml(foreign.url).replaceAll("t1, t2", "t9"));
    expect(await verify(token, checks.routes().byId("a")!)).toEqual({
      ok: false,
      rejection: "missing_claim",
    });
    expect(await lookUps()).toEqual([1, missed + 1]);
    await checks.reload(yaml(foreign.url));
  });

  test("asks the store on every check while the notification listener is not healthy", async () => {
    const grantId = "unheard";
    const token = await checks.token({ aud: "https://a.test" }, { grantId });
    const { createExternalTokens } = await import("../../src/external-tokens/create-external-tokens.ts");
    const notifications = { subscribe: () => () => {}, healthy: () => false };
    const tokens = createExternalTokens({ ...checks, store: { ...checks.store, notifications }, fetch });
    const route = checks.routes().byId("a")!;
    expect(await tokens.verify(token, route)).toMatchObject({ ok: true });
    expect(await tokens.verify(token, route)).toMatchObject({ ok: true });
    await checks.store.authorizationServerRecords.revokeGrant(grantId, { action: "grant.revoked" });
    expect(await tokens.verify(token, route)).toEqual(revoked(grantId));
    tokens.close();
  });

  test("identifies a token by the store's state before the notification has arrived", async () => {
    const grantId = "not yet heard";
    const token = await checks.token({ aud: "https://a.test" }, { grantId });
    const { createExternalTokens } = await import("../../src/external-tokens/create-external-tokens.ts");
    const notifications = { subscribe: () => () => {}, healthy: () => true };
    const tokens = createExternalTokens({ ...checks, store: { ...checks.store, notifications }, fetch });
    expect(await tokens.identify(token)).toMatchObject({ ok: true });
    await checks.store.authorizationServerRecords.revokeGrant(grantId, { action: "grant.revoked" });
    expect(await tokens.identify(token)).toEqual({ ok: false, rejection: "revoked" });
    tokens.close();
  });

  test("reflects at once when a connection is delegated to a service account, and when the delegation ends", async () => {
    const { store, externalTokens } = checks;
    const grantId = crypto.randomUUID();
    const claims = { aud: "https://a.test", sub: "service-account/ci", delegated_by: "company/eve" };
    const token = await checks.token(claims, { grantId });
    const { createExternalTokens } = await import("../../src/external-tokens/create-external-tokens.ts");
    const notifications = { subscribe: () => () => {}, healthy: () => false };
    const stalled = createExternalTokens({ ...checks, store: { ...store, notifications }, fetch });
    const owners = () =>
      Promise.all(
        [externalTokens, stalled].map(async (tokens) => {
          const verified = await tokens.verify(token, a);
          const identified = await tokens.identify(token);
          return [verified, identified].map((one) => one.ok && one.caller.delegatedBy);
        }),
      );
    async function heard(act: () => Promise<unknown>, table: "grant" | "upstream_token" = "grant") {
      const { next, stop } = changes(
        store,
        (change) => change.table === table && !("grantId" in change && change.grantId !== grantId),
      );
      await act();
      await next;
      stop();
    }
    const both = (owner?: string) => [
      [owner, owner],
      [owner, owner],
    ];

    const which = { grantId, ownerId: "company/alice", routeId: "a" };
    const connection = { userId: "company/alice", routeId: "a", upstream: a.upstream };
    const audit = { action: "delegation.created" } as const;
    const expiresAt = new Date(Date.now() + 3_600_000);
    await heard(
      () => store.upstreamTokens.put(upstreamToken(connection), { action: "upstream_token.obtained" }),
      "upstream_token",
    );
    await askForDelegation(store, { ...which, account: claims.sub, routeIds: ["a", "b"], expiresAt });
    // The token's own claims about it are ignored.
    expect(await owners()).toEqual(both());
    await heard(() => store.delegations.give({ ...which, upstream: a.upstream }, audit));
    expect(await owners()).toEqual(both("company/alice"));
    await heard(() => store.delegations.end(which, audit));
    expect(await owners()).toEqual(both());
    await heard(() => store.delegations.give({ ...which, upstream: a.upstream }, audit));
    // The route now has a different upstream, whose connection was not delegated.
    await checks.reload(yaml(foreign.url).replace("http://127.0.0.1:1,", "http://127.0.0.1:3,"));
    expect(await owners()).toEqual(both());
    await checks.reload(yaml(foreign.url));
    expect(await owners()).toEqual(both("company/alice"));
    stalled.close();
  });

  test("a token that is too long is not identified, even if it is valid", async () => {
    const token = (filler: number) => checks.token({ aud: "https://a.test", filler: "x".repeat(filler) });
    expect(await checks.externalTokens.identify(await token(11_000))).toMatchObject({ ok: true });
    const refused = { ok: false, rejection: "too_large" };
    expect(await checks.externalTokens.identify(await token(12_000))).toEqual(refused);
    const counted = (await checks.metrics.limitsReached.get()).values;
    expect(counted).toEqual([{ labels: { limit: "token_bytes" }, value: 1 }]);
  });

  test("a revocation that arrives during a token's verification is not lost", async () => {
    const grantId = "raced";
    const token = await checks.token({ aud: "https://a.test" }, { grantId });
    const route = checks.routes().byId("a")!;
    const { createExternalTokens } = await import("../../src/external-tokens/create-external-tokens.ts");
    const records = checks.store.authorizationServerRecords;
    const heard = new Promise<void>((resolve) => {
      checks.store.notifications.subscribe((change) => {
        if (change.table === "grant" && change.grantId === grantId) resolve();
      });
    });
    const store = {
      ...checks.store,
      authorizationServerRecords: {
        ...records,
        // The response is correct when it is sent, but outdated when it arrives.
        async grantIsLive(id: string) {
          const live = await records.grantIsLive(id);
          await records.revokeGrant(id, { action: "grant.revoked" });
          await heard;
          return live;
        },
      },
    };
    const tokens = createExternalTokens({ ...checks, store, fetch });
    await tokens.verify(token, route);
    expect(await tokens.verify(token, route)).toEqual(revoked(grantId));
    tokens.close();
  });
});
