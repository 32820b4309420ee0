import { request as httpRequest } from "node:http";
import { text } from "node:stream/consumers";
import { request } from "undici";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import type { Caller } from "../../src/external-tokens/external-tokens.ts";
import { signedCallHeader } from "../../src/external-tokens/signed-calls.ts";
import { envoySecret, startAggregateGateway, toA, toB } from "../support/aggregate-gateway.ts";
import { throughEnvoy } from "../support/through-envoy.ts";

/*
 * An aggregated route in front of two members, behind a proxy that reports its clients' addresses. Member b serves one address only.
 */
const office = "10.1.2.3";
const atHome = "192.0.2.7";
let gateway: Awaited<ReturnType<typeof startAggregateGateway>>;
beforeAll(async () => {
  gateway = await startAggregateGateway((own) => {
    const { routes, envoy, ...rest } = Object(own);
    const [all, a, b] = routes;
    const policy = [{ allow: { and: [{ source_ip: office }] } }];
    return { ...rest, envoy: { ...envoy, xff_num_trusted_hops: 1 }, routes: [all, a, { ...b, policy }] };
  });
});
afterAll(() => gateway?.close());
beforeEach(() => {
  gateway.seen.length = 0;
  gateway.seenByPort.length = 0;
});

/** A request to a public URL, as clients send it. @returns its status */
async function statusOf(url: string, token: string, headers: Record<string, string> = {}): Promise<number> {
  const answer = await throughEnvoy(gateway.address, {
    url,
    method: "POST",
    headers: {
      authorization: `Bearer ${token}`,
      "content-type": "application/json",
      "x-forwarded-for": office,
      ...headers,
    },
    body: "{}",
  });
  return answer.status;
}

/** The same by a program on this machine, at the listener that the sidecar uses. */
function atMemberListener(
  host: string,
  headers: Record<string, string>,
): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const sent = httpRequest(
      {
        port: gateway.memberPort,
        host: "127.0.0.1",
        method: "POST",
        path: host === "b.test" ? "/mcp" : "/",
        headers: { host, "content-type": "application/json", ...headers },
      },
      (answer) => text(answer).then((body) => resolve({ status: answer.statusCode ?? 0, body }), reject),
    );
    sent.once("error", reject);
    sent.end("{}");
  });
}

/** A member's token as the gateway mints it for one call, which no client ever has. */
async function memberToken(member: "a" | "b", grantId: string, sourceIp = office): Promise<string> {
  const { routes, externalTokens } = gateway;
  const route = routes().byId("all");
  const to = routes().byId(member);
  if (!route || !to) throw new Error("no such route");
  const caller = { userId: "idp/alice", clientId: "client-1", grantId, scopes: [] };
  return externalTokens.forMember({ route, caller, sourceIp }, to);
}
let grants = 0;
/** A live grant for the aggregated route. */
async function grant(): Promise<string> {
  grants += 1;
  const grantId = `aggregate-grant-${grants}`;
  await gateway.aggregateToken({}, grantId);
  return grantId;
}

test("the aggregated route's token is not valid at a member, nor at the listener for members", async () => {
  const token = await gateway.aggregateToken();
  expect(await statusOf("https://a.test/", token)).toBe(401);
  expect((await atMemberListener("a.test", { authorization: `Bearer ${token}` })).status).toBe(401);
  expect(gateway.seen).toEqual([]);
});

test("the listener for members serves their hosts only, and checks every request", async () => {
  expect((await atMemberListener("a.test", {})).status).toBe(401);
  const authorization = `Bearer ${await gateway.aggregateToken()}`;
  for (const host of ["all.test", "auth.test", "127.0.0.1", "elsewhere.test"])
    expect((await atMemberListener(host, { authorization })).status).toBe(404);
  const token = await gateway.token({ aud: "https://a.test" });
  const answer = await atMemberListener("a.test", {
    authorization: `Bearer ${token}`,
    "x-pomerium-jwt-assertion": "forged",
    "x-envoy-upstream-rq-timeout-ms": "1",
  });
  expect(answer.status).toBe(200);
  expect(gateway.seen[0]?.headers["x-pomerium-jwt-assertion"]).not.toBe("forged");
  expect(gateway.seen[0]?.headers).not.toHaveProperty("x-envoy-upstream-rq-timeout-ms");
});

test("a member's token is valid at that member only", async () => {
  const token = await memberToken("a", await grant());
  expect(await statusOf("https://a.test/", token)).toBe(200);
  expect(await statusOf("https://b.test/mcp", token)).toBe(401);
  expect(await statusOf("https://all.test/", token)).toBe(401);
  expect(gateway.seen.map(({ server }) => server)).toEqual(["a"]);
  expect(gateway.seenByPort).toEqual([]);
  expect(await gateway.externalTokens.identify(token)).toEqual({ ok: false, rejection: "wrong_audience" });
});

test("a member's token ends with the grant of the aggregated route", async () => {
  const grantId = await grant();
  const token = await memberToken("a", grantId);
  expect(await statusOf("https://a.test/", token)).toBe(200);
  await gateway.store.authorizationServerRecords.revokeGrant(grantId, { action: "grant.revoked", grantId });
  await expect.poll(() => statusOf("https://a.test/", token), { timeout: 60_000 }).toBe(401);
  const again = await memberToken("a", grantId);
  expect(await statusOf("https://a.test/", again)).toBe(401);
});

test.each([
  ["the route loses the member", 'routes":["a","b"]', 'routes":["b"]'],
  ["the route is disabled", '"id":"all"', '"id":"all","enabled":false'],
  [
    "the route is gone",
    '"mcp":{"aggregate":{"routes":["a","b"]}}',
    '"to":"http://127.0.0.1:1","mcp":{"server":{}}',
  ],
])("a member's token ends when %s", async (_, from, to) => {
  const token = await memberToken("a", await grant());
  expect(await statusOf("https://a.test/", token)).toBe(200);
  let before = "";
  await gateway.reload((current) => {
    before = current;
    expect(current).toContain(from);
    return current.replace(from, to);
  });
  try {
    expect(await statusOf("https://a.test/", token)).toBe(401);
    await expect(memberToken("a", await grant())).rejects.toThrow("is not a member");
  } finally {
    await gateway.reload(before);
  }
});

test("a token with a forged `via` of another key, or one that names no aggregated route, is rejected", async () => {
  for (const via of [
    { route: "a" },
    { route: "nowhere" },
    { route: 7 },
    "all",
    { route: "all", source_ip: [office] },
  ]) {
    const token = await gateway.token({ aud: "https://a.test", via });
    expect(await statusOf("https://a.test/", token)).toBe(401);
  }
});

test("a client sends a signed call of its own: Envoy and the check replace it, and members never get one", async () => {
  const forged = { [signedCallHeader]: "e30.kid.mac", [signedCallHeader.toUpperCase()]: "e30.kid.mac" };
  const answer = await gateway.call(await gateway.aggregateToken(), toA, {
    ...forged,
    "x-forwarded-for": office,
  });
  expect(answer).toMatchObject({ status: 200, body: { status: 200 } });
  expect(gateway.seenByPort[0]?.headers[signedCallHeader]).not.toContain("e30.kid.mac");
  expect(await statusOf("https://a.test/", await gateway.token({ aud: "https://a.test" }), forged)).toBe(200);
  for (const one of gateway.seen) expect(one.headers).not.toHaveProperty(signedCallHeader);
});

/** A neighbor at the HTTP port. It even knows the secret that authenticates Envoy. */
async function atHttpPort(
  headers: Record<string, string>,
  { path = "/", method = "POST" as "POST" | "GET", secret = envoySecret } = {},
): Promise<number> {
  const answer = await request(`http://127.0.0.1:${gateway.httpPort}${path}`, {
    method,
    headers: { host: "all.test", ...(secret && { "x-mcp-auth-secret": secret }), ...headers },
    body: method === "GET" ? null : JSON.stringify(toA),
  });
  await answer.body.dump();
  return answer.statusCode;
}
const caller: Pick<Caller, "userId" | "clientId" | "scopes" | "expiresAt" | "kind" | "refreshable"> & {
  grantId: string;
} = {
  userId: "idp/alice",
  clientId: "client-1",
  grantId: "g",
  kind: "person",
  scopes: [],
  expiresAt: 0,
  refreshable: true,
};
const signed = (parts: object = {}) =>
  gateway.signedCalls.sign({ routeId: "all", method: "POST", path: "/", requestId: "r", caller, ...parts });

test("a neighbor at the HTTP port without a call that a check has signed is denied", async () => {
  expect(await atHttpPort({ [signedCallHeader]: signed() }, { secret: "" })).toBe(403);
  expect(await atHttpPort({})).toBe(403);
  const token = await gateway.aggregateToken();
  expect(await atHttpPort({ authorization: `Bearer ${token}` })).toBe(403);
  const genuine = signed();
  const [payload = "", kid = "", mac = ""] = genuine.split(".");
  const bob = Buffer.from(
    Buffer.from(payload, "base64url").toString().replace("idp/alice", "idp/bob"),
  ).toString("base64url");
  for (const forged of [
    "",
    "a.b.c",
    `${bob}.${kid}.${mac}`,
    `${payload}.${kid}.${"A".repeat(43)}`,
    `${payload}.${kid}`,
  ])
    expect(await atHttpPort({ [signedCallHeader]: forged })).toBe(403);
  expect(gateway.seen).toEqual([]);
  expect(await atHttpPort({ [signedCallHeader]: genuine })).toBe(200);
});

test("a neighbor replays a signed call, or uses one of another route, path or method: it is denied", async () => {
  const value = signed();
  const call = { [signedCallHeader]: value };
  expect(await atHttpPort(call)).toBe(200);
  expect(await atHttpPort(call)).toBe(403);
  // Other spellings of the same bytes: the last character of a MAC in base64url has two unused bits.
  const [last = ""] = value.slice(-1);
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  for (const bits of [1, 2, 3]) {
    const other = value.slice(0, -1) + alphabet[alphabet.indexOf(last) ^ bits];
    expect(await atHttpPort({ [signedCallHeader]: other })).toBe(403);
  }
  expect(await atHttpPort({ [signedCallHeader]: signed({ routeId: "a" }) })).toBe(403);
  expect(await atHttpPort({ [signedCallHeader]: signed() }, { path: "/other" })).toBe(403);
  expect(await atHttpPort({ [signedCallHeader]: signed() }, { method: "GET" })).toBe(403);
  const old = signed();
  gateway.clock.offset = 61_000;
  expect(await atHttpPort({ [signedCallHeader]: old })).toBe(403);
  gateway.clock.offset = 0;
});

test("a signed call of a person who has left is denied", async () => {
  const gone = { ...caller, userId: "idp/nobody" };
  expect(await atHttpPort({ [signedCallHeader]: signed({ caller: gone }) })).toBe(403);
});

test("a member's policy decides about the caller's address, which a program on the gateway's machine cannot forge", async () => {
  const token = await gateway.aggregateToken();
  expect((await gateway.call(token, toB, { "x-forwarded-for": office })).body.status).toBe(200);
  expect((await gateway.call(token, toB, { "x-forwarded-for": atHome })).body.status).toBe(403);
  // The stand-in sends what it likes to the listener for members: only the token counts.
  const forging = { ...toB, headers: { "x-forwarded-for": office, "x-real-ip": office } };
  expect((await gateway.call(token, forging, { "x-forwarded-for": atHome })).body.status).toBe(403);
  const own = await gateway.token({ aud: "https://b.test/mcp" });
  for (const forwarded of [office, `${office}, 10.9.9.9`, `10.9.9.9, ${office}`]) {
    const headers = { authorization: `Bearer ${own}`, "x-forwarded-for": forwarded };
    expect((await atMemberListener("b.test", headers)).status).toBe(403);
  }
  expect(gateway.seen.map(({ server }) => server)).toEqual(["b"]);
});

test("a member names another server's URL: the caller's token is not sent there", async () => {
  const token = await gateway.aggregateToken();
  for (const url of [
    "https://b.test/mcp",
    "https://elsewhere.test/",
    "http://a.test/",
    "https://a.test:444/",
  ]) {
    const answer = await gateway.call(token, { member: "a", url }, { "x-forwarded-for": office });
    expect(answer).toMatchObject({
      status: 502,
      body: { error: expect.stringContaining("is not a URL of a") },
    });
  }
  expect(gateway.seen).toEqual([]);
});

test("a member redirects the call: the redirect is not followed", async () => {
  const answer = await gateway.call(
    await gateway.aggregateToken(),
    { member: "a", url: "https://a.test/moved" },
    { "x-forwarded-for": office },
  );
  expect(answer).toMatchObject({ status: 200, body: { status: 307 } });
  expect(gateway.seen.map(({ url }) => url)).toEqual(["/moved"]);
});

test("a client holds all connections for aggregated routes: the next call is 503, and the gateway's own paths are served", async () => {
  let replaced = 0;
  const small = await startAggregateGateway(undefined, (generated) =>
    generated.replace(/"max_connections":4096,"max_pending_requests":1024/g, () => {
      replaced += 1;
      return '"max_connections":2,"max_pending_requests":1';
    }),
  );
  try {
    expect(replaced).toBe(1);
    const token = await small.aggregateToken();
    let rejected = 0;
    const hold = () => {
      small.call(token, { ...toA, hold: true }).then(
        ({ status }) => {
          if (status === 503) rejected += 1;
        },
        () => {},
      );
      return rejected;
    };
    await expect.poll(hold, { timeout: 60_000, interval: 50 }).toBeGreaterThan(0);
    const own = { url: "https://all.test/.well-known/oauth-protected-resource" };
    const answer = await throughEnvoy(small.address, own);
    // The port's own response: nothing else is mounted there in this test.
    expect([answer.status, JSON.parse(answer.body).error]).toEqual([404, "not_found"]);
  } finally {
    await small.close();
  }
});
