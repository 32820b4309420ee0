import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { check } from "../../src/ext-authz/check.ts";
import type { CheckDeps } from "../../src/ext-authz/check-types.ts";
import { readRequestFacts } from "../../src/ext-authz/request.ts";
import type { Credential } from "../../src/upstream-tokens/upstream-tokens.ts";
import { anyPeer } from "../support/any-peer.ts";
import { scraped } from "../support/scraped.ts";
import { type Answer, startChecks } from "./start-checks.ts";

const yaml = `
issuer: https://auth.test
check: {deadline: 2}
sign_in: {providers: [{issuer: https://idp.test, client_id: x}]}
policy: {allow: {or: [{accept: true}]}}
routes:
  - {id: root, name: Root, from: https://mcp.test/v1, to: https://upstream.test/mcp, mcp: {server: {}}}
`;
const url = "https://mcp.test/v1/x?q=1";
let checks: Awaited<ReturnType<typeof startChecks>>;
let find: CheckDeps["upstreamTokens"]["find"];
beforeAll(async () => {
  checks = await startChecks(yaml, { upstreamTokens: { find: (...asked) => find(...asked) } });
});
afterAll(() => checks.close());

async function given(answer: typeof find) {
  find = answer;
  const headers = { authorization: `Bearer ${await checks.token({ aud: "https://mcp.test/v1" })}` };
  return () => checks.ask({ url, headers });
}
const errorOf = (answer: Answer) => JSON.parse(answer.body).error;
const always = (credential: Credential) => () => credential;

describe("the outcomes of finding the upstream's credential", () => {
  test("an upstream token replaces the external token: exactly one Authorization, and its connection in the metadata", async () => {
    const ask = await given(
      always({
        kind: "credential",
        headers: [["authorization", "Bearer upstream-token"]],
        connection: "c",
        version: 3,
      }),
    );
    const answer = await ask();
    expect(answer.set.authorization).toBe("Bearer upstream-token");
    expect(answer.removed).not.toContain("authorization");
    expect(answer.metadata).toMatchObject({ connection: "c", version: 3, path: "/v1/x" });
  });

  test("a DPoP proof is created for the URL that the upstream sees", async () => {
    const ask = await given(
      always({
        kind: "credential",
        headers: [["authorization", "DPoP upstream-token"]],
        proof: async (method, target) => [["dpop", `${method} ${target}`]],
      }),
    );
    expect((await ask()).set.dpop).toBe("POST https://upstream.test/mcp/x");
  });

  test("a missing consent is challenged as an invalid token, with the scopes that the upstream requires", async () => {
    const ask = await given(always({ kind: "missing", scopes: ["repo", 'x"y'], reason: "no_connection" }));
    const answer = await ask();
    expect(answer.status).toBe(401);
    expect(answer.headers["www-authenticate"]).toBe(
      'Bearer resource_metadata="https://mcp.test/.well-known/oauth-protected-resource/v1/x", error="invalid_token", error_description="Unauthorized: this server needs your consent; authorize again", scope="repo"',
    );
  });

  test("an unavailable authorization server: 503 with Retry-After", async () => {
    const ask = await given(always({ kind: "unavailable", retryAfterSeconds: 7, reason: "refresh_failed" }));
    const answer = await ask();
    expect(answer.status).toBe(503);
    expect(answer.headers["retry-after"]).toBe("7");
    expect(JSON.parse(answer.body)).toEqual({
      error: "upstream_token_unavailable",
      error_description: "the server's authorization server cannot be reached now; try again later",
      request_id: expect.any(String),
    });
  });

  test("the client gets the cause of an upstream or configuration error", async () => {
    const ask = await given(always({ kind: "unavailable", retryAfterSeconds: 60, reason: "key_unusable" }));
    expect(JSON.parse((await ask()).body).error_description).toBe(
      "this server cannot be used now: the key that is configured for it cannot be read (key_unusable)",
    );
  });

  test("a caller that can never have a credential: 403, no challenge", async () => {
    const ask = await given(always({ kind: "forbidden", reason: "service_account" }));
    const answer = await ask();
    expect(answer.status).toBe(403);
    expect(answer.headers["www-authenticate"]).toBeUndefined();
    expect(JSON.parse(answer.body)).toEqual({
      error: "no_credential",
      error_description: "this caller cannot have a credential for this server: service_account",
      request_id: expect.any(String),
    });
  });
});

describe("unexpected failures deny the request", () => {
  test("a dependency hangs: 503 at the deadline", async () => {
    const ask = await given(() => new Promise(() => {}));
    const denying = async () =>
      (await scraped(checks.metrics, "check_duration_seconds_sum"))['decision="deny"'] ?? 0;
    const before = await denying();
    const answer = await ask();
    expect(answer.status).toBe(503);
    expect(errorOf(answer)).toBe("deadline_exceeded");
    expect((await denying()) - before).toBeGreaterThanOrEqual(0.1);
    expect((await denying()) - before).toBeLessThan(10);
  });

  test.each([
    [
      "throws",
      () => {
        throw new Error("boom secret");
      },
    ],
    ["rejects", () => Promise.reject(new Error("boom secret"))],
  ] satisfies [string, CheckDeps["upstreamTokens"]["find"]][])(
    "a dependency %s: 503 without its error message, logged and counted once",
    async (_name, find) => {
      const ask = await given(find);
      const before = checks.log.length;
      const errors = () => scraped(checks.metrics, "errors_total");
      const { 'component="ext-authz",code="internal"': counted = 0 } = await errors();
      const answer = await ask();
      expect(answer.status).toBe(503);
      expect(errorOf(answer)).toBe("internal");
      expect(answer.body).not.toContain("boom");
      expect(checks.log.slice(before).filter((line) => line.includes('"level":"error"'))).toHaveLength(1);
      expect(await errors()).toEqual({ 'component="ext-authz",code="internal"': counted + 1 });
    },
  );
});

test("a cached check is synchronous: it does no I/O and verifies no signature", async () => {
  const ask = await given(
    always({ kind: "credential", headers: [["authorization", "Bearer upstream-token"]] }),
  );
  expect((await ask()).status).toBe(0);
  const authorization = `Bearer ${await checks.token({ aud: "https://mcp.test/v1" })}`;
  const read = readRequestFacts(
    {
      http: {
        method: "POST",
        host: "mcp.test",
        path: "/v1",
        headers: ["authorization", authorization],
        headersAreText: true,
      },
      contextExtensions: {},
    },
    60_000,
  );
  if (!("facts" in read)) throw new Error("not readable");
  const { facts } = read;
  const deps: CheckDeps = {
    ...checks,
    peers: anyPeer,
    upstreamTokens: {
      find: always({ kind: "credential", headers: [["authorization", "Bearer upstream-token"]] }),
    },
    sessionFromCookieHeader: () => undefined,
  };
  const cold = check(facts, deps);
  expect(cold).toBeInstanceOf(Promise);
  await cold;
  await vi.waitUntil(checks.store.notifications.healthy, 60_000);
  const warm = check(facts, deps);
  expect(warm).not.toBeInstanceOf(Promise);
  expect(warm).toMatchObject({ decision: { kind: "allow" } });
});

// Last, because the store does not come back.
test("the store is unavailable: 503, also for a cached token", async () => {
  const ask = await given(always({ kind: "credential", headers: [] }));
  expect((await ask()).status).toBe(0);
  await checks.store.close();
  const answer = await ask();
  expect(answer.status).toBe(503);
  expect(answer.set).toEqual({});
});
