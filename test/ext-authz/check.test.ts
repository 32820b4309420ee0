import { SignJWT } from "jose";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { scraped } from "../support/scraped.ts";
import { type Answer, type Asked, startChecks, strangersKey } from "./start-checks.ts";

const yaml = `
issuer: https://auth.test
sign_in: {providers: [{issuer: https://idp.test, client_id: x}]}
policy: {allow: {or: [{accept: true}]}}
routes:
  - {id: root, name: Root, from: https://mcp.test, to: http://127.0.0.1:1/mcp, mcp: {server: {upstream_auth: none}}}
  - {id: team, name: Team, from: https://mcp.test/team, to: http://127.0.0.1:2, mcp: {server: {upstream_auth: none}}}
  - {id: off, name: Off, from: https://off.test, to: http://127.0.0.1:3, enabled: false, mcp: {server: {upstream_auth: none}}}
  - {id: staff, name: Staff, from: https://staff.test, to: http://127.0.0.1:4, mcp: {server: {upstream_auth: none}}, policy: {allow: {or: [{email: {is: bob@example.com}}]}}}
  - {id: tools, name: Tools, from: https://tools.test, to: http://127.0.0.1:5, mcp: {server: {upstream_auth: none, tools: {deny: [rm]}}}}
  - {id: both, name: Both, from: https://both.test, to: http://127.0.0.1:8, mcp: {server: {upstream_auth: none, tools: {deny: [rm]}}}, policy: {allow: {or: [{email: {is: bob@example.com}}]}}}
  - {id: quiet, name: Quiet, from: https://quiet.test, to: http://127.0.0.1:6, pass_identity_headers: false, mcp: {server: {upstream_auth: none}}}
  - {id: slow, name: Slow, from: https://slow.test, to: http://127.0.0.1:7, rate_limit: {requests_per_minute: 1}, mcp: {server: {upstream_auth: none}}}
`;
let checks: Awaited<ReturnType<typeof startChecks>>;
beforeAll(async () => {
  checks = await startChecks(yaml);
});
afterAll(() => checks.close());

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
const bodyOf = (answer: Answer) => JSON.parse(answer.body);

describe("a valid request", () => {
  test("a valid external token is allowed, and the upstream gets neither it nor any other Authorization", async () => {
    const token = await checks.token();
    const answer = await checks.ask({ headers: { ...bearer(token), "x-request-id": "r-1" } });
    expect(answer.status).toBe(0);
    expect(answer.removed).toContain("authorization");
    expect(JSON.stringify(answer)).not.toContain(token);
    expect(answer.metadata).toMatchObject({
      route: "root",
      user: "idp/alice",
      refreshable: 1,
      path: "/",
      request_id: "r-1",
    });
  });

  test("marks a service account by the new and the former name, which replicas of the previous version read", async () => {
    const account = await checks.ask({ headers: bearer(await checks.token({ sub: "service-account/ci" })) });
    expect(account.metadata).toMatchObject({ service_account: 1, machine: 1 });
    const person = await checks.ask({ headers: bearer(await checks.token()) });
    expect(Object.keys(person.metadata)).not.toEqual(expect.arrayContaining(["service_account"]));
    expect(Object.keys(person.metadata)).not.toEqual(expect.arrayContaining(["machine"]));
  });

  test("removes the external token from every other header, identity headers, and all cookies", async () => {
    const token = await checks.token();
    const answer = await checks.ask({
      headers: {
        ...bearer(token),
        cookie: "theme=dark; __Host-mcp_session=secret",
        "x-token-copy": token,
        "x-hidden": `see ${token} there`,
        "X-Pomerium-Claim-Email": "root@example.com",
        x_pomerium_claim_email: "root@example.com",
        "x-auth-request-user": "root",
        "x-forwarded-access-token": "abc",
        "proxy-authorization": "Basic abc",
        "user-agent": "test",
      },
    });
    expect(answer.removed.sort()).toEqual([
      "authorization",
      "cookie",
      "proxy-authorization",
      "x-auth-request-user",
      "x-forwarded-access-token",
      "x-hidden",
      "x-pomerium-claim-email",
      "x-token-copy",
      "x_pomerium_claim_email",
    ]);
  });

  test("the assertion overwrites a forged one and verifies for the route's host", async () => {
    const answer = await checks.ask({
      headers: { ...bearer(await checks.token()), "x-pomerium-jwt-assertion": "forged" },
    });
    const assertion = answer.set["x-pomerium-jwt-assertion"] ?? "";
    expect(answer.set["x-pomerium-assertion"]).toBe(assertion);
    expect(await checks.verifyAssertion(assertion, "https://mcp.test")).toMatchObject({
      sub: "idp/alice",
      email: "alice@example.com",
      name: "Alice",
      groups: ["staff"],
    });
    expect(await checks.verifyAssertion(assertion, "https://other.test")).toBeUndefined();
    expect(answer.removed).not.toContain("x-pomerium-jwt-assertion");
  });

  test("pass_identity_headers: false sends no assertion and still removes a forged one", async () => {
    const token = await checks.token({ aud: "https://quiet.test" });
    const headers = { ...bearer(token), "x-pomerium-assertion": "forged" };
    const answer = await checks.ask({ url: "https://quiet.test/", headers });
    expect(answer.set).toEqual({});
    expect(answer.removed).toContain("x-pomerium-assertion");
  });

  test("the upstream's response gets the gateway's CORS headers", async () => {
    const answer = await checks.ask({ headers: bearer(await checks.token()) });
    expect(answer.responseHeaders).toEqual({
      "access-control-allow-origin": "*",
      "access-control-expose-headers": "WWW-Authenticate, MCP-Session-Id",
      vary: "Origin",
    });
  });

  test("both of Envoy's header encodings are supported", async () => {
    const answer = await checks.ask({
      rawHeaders: [
        [":authority", "mcp.test"],
        ["authorization", `Bearer ${await checks.token()}`],
        ["x-pomerium-claim-x", "1"],
      ],
    });
    expect(answer.status).toBe(0);
    expect(answer.removed.sort()).toEqual(["authorization", "x-pomerium-claim-x"]);
  });
});

describe("a missing or invalid token", () => {
  const metadata = "https://mcp.test/.well-known/oauth-protected-resource";

  test("no token: a challenge without error that points to the path's metadata", async () => {
    const answer = await checks.ask({ url: "https://mcp.test/team/x?y=1" });
    expect(answer.status).toBe(401);
    expect(answer.headers["www-authenticate"]).toBe(`Bearer resource_metadata="${metadata}/team/x"`);
    expect(answer.headers).toMatchObject({ "access-control-allow-origin": "*", "cache-control": "no-store" });
    expect(bodyOf(answer).error_description).toContain("Unauthorized");
    expect(bodyOf(answer).resource_metadata).toBe(`${metadata}/team/x`);
  });

  const past = () => Math.floor(Date.now() / 1000) - 3600;
  const bad: [string, string, () => Promise<string>][] = [
    ["expired", "has expired", () => checks.token({ exp: past() })],
    ["not valid yet", "not valid yet", () => checks.token({ nbf: past() + 7200 })],
    ["signed with a foreign key", "signature", async () => checks.token({}, { key: await strangersKey() })],
    ["with an unknown kid", "signature", () => checks.token({}, { header: { kid: "nobody" } })],
    ["without a kid", "signature", () => checks.token({}, { header: { kid: undefined } })],
    ["for another route", "another resource", () => checks.token({ aud: "https://mcp.test/team" })],
    ["for a path under the route", "another resource", () => checks.token({ aud: "https://mcp.test/x" })],
    [
      "for two routes",
      "another resource",
      () => checks.token({ aud: ["https://mcp.test", "https://mcp.test/team"] }),
    ],
    ["of another type", "not an access token", () => checks.token({}, { header: { typ: "JWT" } })],
    ["without a type", "not an access token", () => checks.token({}, { header: { typ: undefined } })],
    ["of an unknown issuer", "issuer", () => checks.token({ iss: "https://evil.test" })],
    ["of a grant that never existed", "revoked", () => checks.token({}, { noGrant: true })],
    ["without a grant", "required claim", () => checks.token({ grant_id: undefined })],
    ["without a client", "required claim", () => checks.token({ client_id: undefined })],
    ["without an expiry", "required claim", () => checks.token({ exp: undefined })],
    [
      "unsigned",
      "signature",
      async () => `${b64({ alg: "none", typ: "at+jwt" })}.${b64({ iss: "https://auth.test" })}.`,
    ],
    ["signed by HMAC with the gateway's public key", "signature", () => hmacWithPublicKey()],
    [
      "that contains its own key",
      "signature",
      async () =>
        checks.token({}, { key: await strangersKey(), header: { jku: "https://evil.test", kid: "x" } }),
    ],
    ["with an unknown critical extension", "not issued by this gateway", async () => criticalToken()],
    ["longer than allowed", "too long", () => checks.token({ filler: "x".repeat(20_000) })],
    ["that is not a JWT", "not issued by this gateway", async () => "opaque"],
    ["with three dots", "not issued by this gateway", async () => "a.b.c"],
  ];
  test.each(bad)("an external token %s: 401 invalid_token", async (_name, words, make) => {
    const answer = await checks.ask({ headers: bearer(await make()) });
    expect(answer.status).toBe(401);
    expect(answer.headers["www-authenticate"]).toContain(
      `Bearer resource_metadata="${metadata}", error="invalid_token"`,
    );
    expect(bodyOf(answer)).toMatchObject({
      error: "invalid_token",
      error_description: expect.stringContaining(words),
    });
  });

  test("only Bearer is accepted", async () => {
    const answer = await checks.ask({ headers: { authorization: "Basic dXNlcjpwYXNz" } });
    expect(answer.status).toBe(401);
    expect(answer.headers["www-authenticate"]).toContain('error="invalid_token"');
  });

  test("a token within the leeway is still valid, also from the cache", async () => {
    const token = await checks.token({ exp: Math.floor(Date.now() / 1000) - 5 });
    expect((await checks.ask({ headers: bearer(token) })).status).toBe(0);
    expect((await checks.ask({ headers: bearer(token) })).status).toBe(0);
  });

  test("a cached token ends when it expires, and is not valid for another route", async () => {
    const token = await checks.token();
    expect((await checks.ask({ headers: bearer(token) })).status).toBe(0);
    expect((await checks.ask({ url: "https://mcp.test/team", headers: bearer(token) })).status).toBe(401);
    checks.clock.offset = 3_700_000;
    const answer = await checks.ask({ headers: bearer(token) });
    checks.clock.offset = 0;
    expect(bodyOf(answer).error_description).toContain("expired");
  });

  test("a revoked grant ends its cached tokens", async () => {
    const token = await checks.token({}, { grantId: "to-revoke" });
    expect((await checks.ask({ headers: bearer(token) })).status).toBe(0);
    const heard = new Promise<void>((resolve) => {
      checks.store.notifications.subscribe((change) => {
        if (change.table === "grant" && change.grantId === "to-revoke") resolve();
      });
    });
    await checks.store.authorizationServerRecords.revokeGrant("to-revoke", { action: "grant.revoked" });
    await heard;
    const answer = await checks.ask({ headers: bearer(token) });
    expect(answer.status).toBe(401);
    expect(bodyOf(answer).error_description).toContain("revoked");
  });
});

test("checks are counted by decision, reason and route, and their duration is measured", async () => {
  const checked = () => scraped(checks.metrics, "checks_total");
  const durations = () => scraped(checks.metrics, "check_duration_seconds_count");
  const before = { ...(await checked()), ...(await durations()) };
  await checks.ask({ headers: bearer(await checks.token()) });
  await checks.ask();
  await checks.ask({ url: "https://nowhere.test/" });
  await checks.ask({ method: "OPTIONS" });
  const after = { ...(await checked()), ...(await durations()) };
  const grown = Object.entries(after).filter(([series, value]) => value !== before[series]);
  expect(Object.fromEntries(grown.map(([series, value]) => [series, value - (before[series] ?? 0)]))).toEqual(
    {
      'decision="allow",reason="ok",route="root"': 1,
      'decision="challenge",reason="no_token",route="root"': 1,
      'decision="deny",reason="unknown_host",route=""': 1,
      'decision="reply",reason="preflight",route="root"': 1,
      'decision="allow"': 1,
      'decision="challenge"': 1,
      'decision="deny"': 1,
      'decision="reply"': 1,
    },
  );
});

describe("denials that are not challenges", () => {
  const call = (id: unknown, name = "query") =>
    ({ jsonrpc: "2.0", id, method: "tools/call", params: { name } }) as const;
  /** Alice, who has no access to either route. */
  const barred = async (route: "staff" | "both", message?: unknown, more: Partial<Asked> = {}) => {
    const url = `https://${route}.test`;
    const body = message === undefined ? undefined : JSON.stringify(message);
    const headers = {
      ...bearer(await checks.token({ aud: url })),
      "content-type": "application/json",
      "x-request-id": "r-7",
      ...(body && { "content-length": String(body.length) }),
      ...more.headers,
    };
    return checks.ask({ url, ...more, ...(body && { body }), headers });
  };
  const words = "You do not have access to this server.";
  const data = { reason: "not_allowed", request_id: "r-7" };
  /** Not JSON-RPC: the Rust SDK drops an error without an id, and its caller waits. */
  const plain = { error: "not_allowed", error_description: words, request_id: "r-7" };

  test("policy denies a call whose body is not inspected with 403 and JSON that is not JSON-RPC", async () => {
    const answer = await barred("staff", call(7));
    expect(answer.status).toBe(403);
    expect(answer.headers["www-authenticate"]).toBeUndefined();
    expect(answer.headers).toMatchObject({
      "access-control-allow-origin": "*",
      "content-type": "application/json",
    });
    expect(bodyOf(answer)).toEqual(plain);
    const stream = await barred("staff", undefined, { method: "GET" });
    expect([stream.status, bodyOf(stream)]).toEqual([403, plain]);
  });

  test("where bodies are read, each request of a caller without access is answered by its id, like a denied tool", async () => {
    const error = { code: -32600, message: words, data };
    const alone = await barred("both", call(7));
    expect([alone.status, bodyOf(alone)]).toEqual([200, { jsonrpc: "2.0", id: 7, error }]);
    const begin = await barred("both", { jsonrpc: "2.0", id: "a", method: "initialize", params: {} });
    expect([begin.status, bodyOf(begin)]).toEqual([200, { jsonrpc: "2.0", id: "a", error }]);
    const batch = await barred("both", [call(1), { jsonrpc: "2.0", method: "notifications/x" }, call(2)]);
    expect([batch.status, bodyOf(batch)]).toEqual([
      200,
      [
        { jsonrpc: "2.0", id: 1, error },
        { jsonrpc: "2.0", id: 2, error },
      ],
    ]);
    const legacy = await barred("both", call(7), {
      url: "https://both.test/messages?sessionId=a",
      headers: { accept: "*/*" },
    });
    expect([legacy.status, bodyOf(legacy)]).toEqual([403, { jsonrpc: "2.0", id: 7, error }]);
  });

  test.each<[string, unknown, Partial<Asked>?]>([
    ["a notification", { jsonrpc: "2.0", method: "notifications/x" }],
    ["an answer", { jsonrpc: "2.0", id: 1, result: {} }],
    ["not JSON-RPC", { id: 1 }],
    ["an id that parsers read differently", call(2 ** 60)],
    ["nothing", undefined],
    ["more than 16 KiB", { ...call(1), filler: "x".repeat(16 * 1024) }],
    ["another type", call(1), { headers: { "content-type": "text/plain" } }],
    ["an encoding", call(1), { headers: { "content-encoding": "gzip" } }],
  ])(
    "%s of a caller without access is 403, and reveals nothing about the body",
    async (_what, message, more) => {
      const answer = await barred("both", message, more);
      expect([answer.status, bodyOf(answer)]).toEqual([403, plain]);
    },
  );

  test("a caller without access is denied before the body, unless its ids must be answered: then no credential is added", async () => {
    const early = (length: string | undefined, more: Partial<Asked> = {}) =>
      barred("both", undefined, {
        context: { phase: "headers" },
        ...more,
        headers: length === undefined ? {} : { "content-length": length },
      });
    for (const length of [undefined, "0", "16385", "1e3", "-1", "9".repeat(30), "7,7"]) {
      const answer = await early(length);
      expect([length, answer.status, bodyOf(answer)]).toEqual([length, 403, plain]);
    }
    expect((await early("400", { method: "DELETE" })).status).toBe(403);
    const admitted = await early("400");
    expect([admitted.status, admitted.set, admitted.metadata]).toEqual([0, {}, {}]);
    // The second check decides, whatever the result of the first one.
    expect((await barred("both", call(7))).status).toBe(200);
  });

  test("a denied tool call is answered as JSON-RPC with the request's id", async () => {
    const token = await checks.token({ aud: "https://tools.test" });
    const body = JSON.stringify({ jsonrpc: "2.0", id: 7, method: "tools/call", params: { name: "rm" } });
    const headers = { ...bearer(token), "content-type": "application/json", "x-request-id": "r-7" };
    const answer = await checks.ask({ url: "https://tools.test/", headers, body });
    expect(answer.status).toBe(200);
    expect(answer.headers).toMatchObject({ "content-type": "application/json", "cache-control": "no-store" });
    expect(bodyOf(answer)).toMatchObject({ id: 7, error: { code: -32602, data: { request_id: "r-7" } } });
  });

  test("more requests than allowed: 429 with Retry-After", async () => {
    const token = await checks.token({ aud: "https://slow.test" });
    const ask = () => checks.ask({ url: "https://slow.test/", headers: bearer(token) });
    expect((await ask()).status).toBe(0);
    const answer = await ask();
    expect(answer.status).toBe(429);
    expect(Number(answer.headers["retry-after"])).toBeGreaterThan(0);
    expect(bodyOf(answer)).toEqual({
      error: "rate_limited",
      error_description: expect.stringMatching(/^too many requests to Slow; /),
      request_id: expect.any(String),
    });
  });

  test.each([
    ["an unknown host", "https://nobody.test/x", "nobody.test"],
    ["a disabled route", "https://off.test/x", "/x"],
    ["the issuer's host, which has no route", "https://auth.test/x", "/x"],
    ["one of the gateway's own paths", "https://mcp.test/.pomerium/sign_in", "/.pomerium/sign_in"],
    [
      "one of the gateway's metadata documents",
      "https://mcp.test/.well-known/oauth-protected-resource/team",
      "/.well-known/",
    ],
  ])("%s: a 404 that names it", async (_name, url, named) => {
    const answer = await checks.ask({ url, headers: bearer(await checks.token()) });
    expect(answer.status).toBe(404);
    expect(bodyOf(answer).error_description).toContain(named);
  });

  test.each(["//", "///?x=1"])(
    "%s: 400, unless Envoy says that it routes it as the route itself",
    async (path) => {
      const ask = async (context?: Record<string, string>) =>
        checks.ask({ url: `https://mcp.test${path}`, headers: bearer(await checks.token()), context });
      for (const context of [undefined, { route: "root" }]) {
        const answer = await ask(context);
        expect([answer.status, bodyOf(answer).error]).toEqual([400, "bad_path"]);
      }
      expect((await ask({ route: "root", slashes: "merged" })).status).toBe(0);
    },
  );

  test("Envoy's route and the gateway's must match", async () => {
    const headers = bearer(await checks.token());
    expect((await checks.ask({ headers, context: { route: "root" } })).status).toBe(0);
    expect((await checks.ask({ headers, context: { route: "team" } })).status).toBe(503);
  });
});

test("a preflight request is answered before authentication, including parameter headers", async () => {
  const headers = {
    origin: "https://inspector.test",
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization, mcp-param-region, x-evil",
  };
  const answer = await checks.ask({ method: "OPTIONS", headers });
  expect(answer.status).toBe(204);
  expect(answer.headers["access-control-allow-origin"]).toBe("*");
  expect(answer.headers["access-control-allow-methods"]).toBe("GET, POST, DELETE, OPTIONS");
  expect(answer.headers["access-control-allow-headers"]).toBe(
    "Authorization, Content-Type, Accept, MCP-Protocol-Version, MCP-Session-Id, Last-Event-ID, Mcp-Method, Mcp-Name, mcp-param-region",
  );
  expect(answer.headers.vary).toContain("Origin");
});

test("the log never contains a token or an assertion", async () => {
  const token = await checks.token();
  const answer = await checks.ask({ headers: bearer(token) });
  await checks.ask({ url: "https://mcp.test/team", headers: bearer(token) });
  const log = checks.log.join("");
  expect(log).toContain("request denied");
  expect(log).not.toContain(token);
  expect(log).not.toContain(answer.set["x-pomerium-assertion"]);
});

const b64 = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");

async function hmacWithPublicKey(): Promise<string> {
  const [key] = checks.keys.jwks("external_token").keys;
  return new SignJWT({ iss: "https://auth.test", aud: "https://mcp.test", sub: "idp/alice" })
    .setProtectedHeader({ alg: "HS256", typ: "at+jwt", kid: key?.kid })
    .sign(new TextEncoder().encode(JSON.stringify(key)));
}

async function criticalToken(): Promise<string> {
  const [, payload, signature] = (await checks.token()).split(".");
  const { kid } = checks.keys.signer("external_token");
  return [
    b64({ alg: "ES256", typ: "at+jwt", kid, crit: ["urn:nobody-knows"], "urn:nobody-knows": 1 }),
    payload,
    signature,
  ].join(".");
}

describe("a person who opens a URL in a browser", () => {
  const accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
  const browsers: [string, Record<string, string>][] = [
    ["of today", { accept, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document" }],
    ["that does not send Sec-Fetch headers", { accept }],
  ];
  const portal = 'href="https://auth.test/.pomerium/routes"';
  const open = (url: string, headers: Record<string, string>, method = "GET") =>
    checks.ask({ url, headers: { "x-request-id": "r-7", ...headers }, method });

  test.each(browsers)("a browser %s gets a page for each kind of URL", async (_which, headers) => {
    const places = [
      ["https://mcp.test/", 401, "Root", "https://mcp.test"],
      ["https://mcp.test/mcp", 401, "Root", "https://mcp.test/mcp"],
      ["https://mcp.test/team", 401, "Team", "https://mcp.test/team"],
      ["https://mcp.test/team/deep?x=%3Cscript%3E", 401, "Team", "https://mcp.test/team"],
      ["https://auth.test/", 404, "This is an MCP gateway", "no MCP server at this address"],
      ["https://auth.test/wp-admin", 404, "This is an MCP gateway", "no MCP server at this address"],
      ["https://off.test/", 404, "This is an MCP gateway", "no MCP server at this address"],
      ["https://nobody.test/", 404, "Nothing is served here", "nobody.test"],
    ] as const;
    for (const [url, status, title, fact] of places) {
      const answer = await open(url, headers);
      const asClient = await checks.ask({ url, method: "GET", headers: { accept: "text/event-stream" } });
      expect([url, answer.status]).toEqual([url, status]);
      expect(answer.headers).toMatchObject({
        "content-type": "text/html; charset=utf-8",
        "content-security-policy": expect.stringContaining("default-src 'none'"),
        "x-frame-options": "DENY",
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
      });
      for (const text of [`<h1>${title}</h1>`, fact, portal, "Connect a client", "r-7"])
        expect([url, answer.body]).toEqual([url, expect.stringContaining(text)]);
      expect(answer.body).not.toMatch(/deep|wp-admin|script/);
      expect(asClient.status).toBe(status);
      expect(answer.headers["www-authenticate"]).toBe(asClient.headers["www-authenticate"]);
      expect(bodyOf(asClient)).toMatchObject({ error: expect.any(String) });
    }
  });

  test.each([
    ["a client that wants JSON", { accept: "application/json, text/event-stream" }, "GET"],
    ["a client that also accepts HTML", { accept: "application/json, text/html;q=0.1" }, "GET"],
    ["a client that accepts anything", { accept: "*/*" }, "GET"],
    ["a client without an Accept header", {}, "GET"],
    ["a script on a page", { accept: "text/html", "sec-fetch-mode": "cors" }, "GET"],
    ["a posted call", { accept, "sec-fetch-mode": "navigate" }, "POST"],
    ["a call with a token", { accept, authorization: "Bearer abc.def" }, "GET"],
  ])("%s gets JSON", async (_who, headers, method) => {
    for (const url of ["https://mcp.test/", "https://nobody.test/", "https://auth.test/"]) {
      const answer = await open(url, headers as Record<string, string>, method);
      expect(answer.headers["content-type"]).toBe("application/json");
      expect(bodyOf(answer)).toMatchObject({ request_id: "r-7" });
    }
  });

  test.each<[string, number, string, string, Record<string, string>?]>([
    ["https://mcp.test/a%2Fb", 400, "bad_path", "The path has an encoded slash."],
    ["https://mcp.test/a%00", 400, "bad_path", "The path has an encoded control character."],
    ["https://nobody.test/a%5Cb", 400, "bad_path", "The path has an encoded slash."],
    [
      "https://mcp.test/?access_token=never-shown",
      400,
      "token_in_query",
      "belong in the Authorization header",
    ],
    ["https://mcp.test/", 400, "bad_header", "The header content-type has", { "content-type": "café" }],
    ["https://mcp.test/", 400, "bad_host", "names two different hosts", { ":authority": "never-shown.test" }],
    ["https://mcp.test/", 431, "headers_too_large", "longer than", { cookie: `a=${"x".repeat(64 * 1024)}` }],
  ])(
    "a request that is denied while it is read (%s: %i %s) also gets a page",
    async (url, status, code, fact, more = {}) => {
      for (const [, headers] of browsers) {
        const answer = await open(url, { ...headers, ...more });
        expect(answer.status).toBe(status);
        expect(answer.headers).toMatchObject({
          "content-type": "text/html; charset=utf-8",
          "content-security-policy": expect.stringContaining("default-src 'none'"),
          "cache-control": "no-store",
        });
        for (const text of [`<code>${code}</code>`, fact, "<code>r-7</code>"])
          expect(answer.body).toContain(text);
        expect(answer.body).not.toContain("never-shown");
      }
      const clients: [Record<string, string>, string?][] = [
        [{ accept: "application/json, text/event-stream" }],
        [{ accept, "sec-fetch-mode": "cors" }],
        [{ accept, authorization: "Bearer abc.def" }],
        [{ accept }, "POST"],
      ];
      for (const [headers, method] of clients) {
        const answer = await open(url, { ...headers, ...more }, method);
        expect(answer.status).toBe(status);
        expect(bodyOf(answer)).toMatchObject({ error: code, request_id: "r-7" });
      }
    },
  );

  test("a page names any other reason for a denial", async () => {
    const answer = await open("https://mcp.test/team", { accept, "service-worker": "script" });
    expect(answer.status).toBe(403);
    expect(answer.body).toContain("<code>service_worker</code>");
  });
});
