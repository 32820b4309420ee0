import { once } from "node:events";
import type { RequestListener } from "node:http";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { RejectionOutcome, UpstreamRejection } from "../../src/upstream-tokens/upstream-tokens.ts";
import { scraped } from "../support/scraped.ts";
import { openThroughEnvoy, throughEnvoy } from "../support/through-envoy.ts";
import { startGateway } from "./start-gateway.ts";

const metadata = "https://mcp.test/.well-known/oauth-protected-resource";
let gateway: Awaited<ReturnType<typeof startGateway>>;
/** The upstream's behavior for the next calls, and the calls it received. */
let upstream: RequestListener;
let received: { url: string; authorization: string; body: string }[];
/** The decision about the next rejection, and the rejection. */
let decide: (refusal: UpstreamRejection) => RejectionOutcome | Promise<RejectionOutcome>;
let refusals: UpstreamRejection[];

beforeAll(async () => {
  gateway = await startGateway({
    upstream: (request, response) => upstream(request, response),
    upstreamRejected: (refusal) => {
      refusals.push(refusal);
      return Promise.resolve(decide(refusal));
    },
  });
});
afterAll(() => gateway?.close());
beforeEach(() => {
  received = [];
  refusals = [];
  decide = () => ({ kind: "consent", scopes: [], reason: "refused" });
});

/** The upstream reads the whole call, then sends this response. */
function answers(status: number, headers: Record<string, string | string[]>, body: string): RequestListener {
  return async (request, response) => {
    const { url = "", headers: sent } = request;
    received.push({ url, authorization: sent.authorization ?? "", body: await text(request) });
    response.writeHead(status, headers).end(body);
  };
}
const refuses = (
  challenge = 'Bearer error="invalid_token", resource_metadata="https://elsewhere.test/prm"',
) => answers(401, { "www-authenticate": challenge, "set-cookie": "theirs=1" }, '{"error":"theirs"}');

function call(path: string, options: { token?: string; body?: string } = {}) {
  const { token = gateway.token, body = "{}" } = options;
  return throughEnvoy(gateway.address, {
    url: "https://mcp.test/",
    path,
    method: "POST",
    headers: { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) },
    body,
  });
}
const all = (answer: { headers: readonly (readonly [string, string])[] }, name: string) =>
  answer.headers.filter(([one]) => one === name).map(([, value]) => value);

describe("an upstream's 401 to a token we injected", () => {
  it("becomes the gateway's challenge for the requested path, without anything from the upstream", async () => {
    upstream = refuses();
    decide = () => ({ kind: "consent", scopes: ["mcp:read", "mcp:write"], reason: "refused" });
    const answer = await call("/mcp?x=1");
    expect(answer.status).toBe(401);
    expect(all(answer, "www-authenticate")).toEqual([
      `Bearer resource_metadata="${metadata}/mcp", error="invalid_token", ` +
        'error_description="Unauthorized: this server needs your consent; authorize again", scope="mcp:read mcp:write"',
    ]);
    expect(JSON.parse(answer.body)).toMatchObject({
      error: "invalid_token",
      error_description: expect.stringContaining("Unauthorized"),
      resource_metadata: `${metadata}/mcp`,
      request_id: answer.header("x-request-id"),
    });
    expect(answer.header("content-type")).toBe("application/json");
    expect(answer.header("cache-control")).toBe("no-store");
    expect(answer.header("set-cookie")).toBeUndefined();
  });

  it("has the CORS headers of all the gateway's responses, once each", async () => {
    upstream = refuses();
    const answer = await call("/mcp");
    expect(all(answer, "access-control-allow-origin")).toEqual(["*"]);
    expect(all(answer, "access-control-expose-headers")).toEqual(["WWW-Authenticate, MCP-Session-Id"]);
    expect(all(answer, "vary").join(", ").split(", ")).toEqual(["Origin"]);
  });

  it("points to the metadata without a path if the client called the root", async () => {
    upstream = refuses();
    expect((await call("/")).header("www-authenticate")).toContain(`resource_metadata="${metadata}",`);
  });

  it("passes the token's version and all of the upstream's challenges to the decision", async () => {
    upstream = answers(
      401,
      { "www-authenticate": ['DPoP error="use_dpop_nonce"', 'Basic realm="x"'], "dpop-nonce": "n-1" },
      "",
    );
    await call("/mcp");
    expect(refusals).toEqual([
      {
        status: 401,
        routeId: "tools",
        upstreamHash: expect.stringMatching(/^[0-9a-f]{16}$/),
        userId: "idp/alice",
        version: 7,
        wwwAuthenticate: 'DPoP error="use_dpop_nonce", Basic realm="x"',
        dpopNonce: "n-1",
      },
    ]);
  });

  it("never replays the call: the upstream sees it once and completely", async () => {
    upstream = refuses();
    const body = JSON.stringify({ padding: "x".repeat(300_000) });
    expect((await call("/mcp", { body })).status).toBe(401);
    expect(received).toEqual([{ url: "/mcp", authorization: "Bearer upstream-token", body }]);
  });

  it("may arrive before the call's body has been read", async () => {
    upstream = (request, response) => {
      request.resume();
      response.writeHead(401, { "www-authenticate": "Bearer" }).end();
    };
    expect((await call("/mcp", { body: "x".repeat(2_000_000) })).header("www-authenticate")).toContain(
      metadata,
    );
  });

  it("is invalid_token after a successful refresh, so that the client's retry uses the new token", async () => {
    upstream = refuses();
    decide = () => ({ kind: "retry", reason: "refreshed" });
    const answer = await call("/mcp");
    expect([answer.status, answer.header("www-authenticate")]).toEqual([
      401,
      expect.stringContaining('error="invalid_token"'),
    ]);
    expect(answer.header("www-authenticate")).not.toContain("scope=");
  });

  it("is 503 with Retry-After: 0 for an external token that cannot be refreshed", async () => {
    upstream = refuses();
    decide = () => ({ kind: "retry", reason: "refreshed" });
    const token = await gateway.machineToken();
    const answer = await call("/mcp", { token });
    expect([answer.status, answer.header("retry-after"), answer.header("www-authenticate")]).toEqual([
      503,
      "0",
      undefined,
    ]);
  });

  it("is 503 with Retry-After while the authorization server is unavailable", async () => {
    upstream = refuses();
    decide = () => ({ kind: "unavailable", retryAfterSeconds: 17, reason: "server_error" });
    const answer = await call("/mcp");
    expect([answer.status, answer.header("retry-after")]).toEqual([503, "17"]);
    expect(JSON.parse(answer.body)).toMatchObject({
      error: "temporarily_unavailable",
      error_description:
        "this server cannot be used now: it, or its authorization server, failed; try again later (server_error)",
    });
  });

  it("is 503, never the upstream's own challenge, when the decision fails or times out", async () => {
    upstream = refuses();
    decide = () => Promise.reject(new Error("the store is down"));
    const failed = await call("/mcp");
    expect([failed.status, failed.header("www-authenticate")]).toEqual([503, undefined]);
    decide = () => new Promise(() => {});
    const hung = await call("/mcp");
    expect([hung.status, hung.header("www-authenticate")]).toEqual([503, undefined]);
  });

  it("is 503 when processing fails, which is counted as an error", async () => {
    upstream = refuses();
    decide = () => {
      throw new Error("unexpected error");
    };
    const answer = await call("/mcp");
    expect([answer.status, answer.header("www-authenticate")]).toEqual([503, undefined]);
    expect(await scraped(gateway.metrics, "errors_total")).toEqual({
      'component="ext-proc",code="internal"': 1,
    });
  });

  it("ends with a plain error when nothing would help, without the upstream's challenge", async () => {
    upstream = refuses();
    decide = () => ({
      kind: "give_up",
      status: 502,
      reason: "token_rejected_again",
      message: "it did not help",
    });
    const answer = await call("/mcp");
    expect([answer.status, answer.header("www-authenticate")]).toEqual([502, undefined]);
    expect(JSON.parse(answer.body)).toMatchObject({
      error: "token_rejected_again",
      error_description: "it did not help",
    });
    decide = () => ({
      kind: "give_up",
      status: 403,
      reason: "upstream_forbids",
      message: "the server forbids it",
    });
    const forbidden = await call("/mcp");
    expect(forbidden.status).toBe(403);
    expect(JSON.parse(forbidden.body)).toEqual({
      error: "upstream_forbids",
      error_description: "the server forbids it",
      request_id: expect.any(String),
    });
  });

  it("is counted by its status and its outcome", async () => {
    const before = await scraped(gateway.metrics, "upstream_rejections_total");
    const outcomes: RejectionOutcome[] = [
      { kind: "consent", scopes: [], reason: "refused" },
      { kind: "retry", reason: "refreshed" },
      { kind: "unavailable", retryAfterSeconds: 1, reason: "server_error" },
      { kind: "give_up", status: 502, reason: "token_rejected_again", message: "a retry does not help" },
      { kind: "untouched", reason: "granted_already" },
    ];
    for (const status of [401, 403]) {
      upstream = answers(status, {}, "");
      for (const outcome of outcomes) {
        decide = () => outcome;
        await call("/mcp");
      }
      decide = () => Promise.reject(new Error("the store is down"));
      await call("/mcp");
      decide = () => new Promise(() => {});
      await call("/mcp");
    }
    const kinds = [...outcomes.map(({ kind }) => kind), "failed", "deadline_exceeded"];
    const series = [401, 403].flatMap((status) =>
      kinds.map((kind) => `status="${status}",outcome="${kind}"`),
    );
    expect(await scraped(gateway.metrics, "upstream_rejections_total")).toEqual(
      Object.fromEntries(series.map((one) => [one, (before[one] ?? 0) + 1])),
    );
  });

  it("omits scopes that would break the header", async () => {
    upstream = refuses();
    decide = () => ({ kind: "consent", scopes: ['a"b', "good", "new\nline"], reason: "refused" });
    expect((await call("/mcp")).header("www-authenticate")).toMatch(/ scope="good"$/);
  });
});

describe("an upstream's 403", () => {
  it("insufficient_scope becomes a challenge for the required scopes", async () => {
    upstream = answers(
      403,
      { "www-authenticate": 'Bearer error="insufficient_scope", scope="mcp:write"' },
      "no",
    );
    decide = ({ wwwAuthenticate }) => ({
      kind: "consent",
      scopes: ["mcp:read", ...(/scope="([^"]*)"/.exec(wwwAuthenticate)?.[1]?.split(" ") ?? [])],
      reason: "insufficient_scope",
    });
    const answer = await call("/mcp");
    expect([answer.status, answer.header("www-authenticate")]).toEqual([
      401,
      expect.stringContaining('scope="mcp:read mcp:write"'),
    ]);
  });

  it("passes unchanged, body and headers, when nothing could be fixed", async () => {
    upstream = answers(
      403,
      { "www-authenticate": "Bearer theirs", "x-theirs": "1", "content-type": "text/plain" },
      "keep out",
    );
    decide = () => ({ kind: "untouched", reason: "granted_already" });
    const answer = await call("/mcp");
    expect([answer.status, answer.body, answer.header("x-theirs")]).toEqual([403, "keep out", "1"]);
    expect(all(answer, "www-authenticate")).toEqual(["Bearer theirs"]);
  });
});

describe("any other response", () => {
  it.each([200, 204, 302, 400, 404, 429, 500, 503])(
    "with status %i passes without processing",
    async (status) => {
      upstream = answers(
        status,
        { "www-authenticate": "Bearer x", location: "/there" },
        status === 204 ? "" : "body",
      );
      const answer = await call("/mcp");
      expect([answer.status, answer.header("www-authenticate")]).toEqual([status, "Bearer x"]);
      expect(refusals).toEqual([]);
    },
  );

  it("streams without interruption: an event arrives before the next one is sent", async () => {
    let send: (text: string) => void = () => {};
    let end = () => {};
    upstream = (request, response) => {
      request.resume();
      response.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders();
      send = (event) => response.write(event);
      end = () => response.end();
    };
    const stream = await openThroughEnvoy(gateway.address, {
      url: "https://mcp.test/mcp",
      headers: { authorization: `Bearer ${gateway.token}`, accept: "text/event-stream" },
    });
    for (const event of ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"]) {
      send(event);
      const [piece] = await once(stream, "data");
      expect(String(piece)).toBe(event);
    }
    end();
    await once(stream, "end");
    expect(refusals).toEqual([]);
  });

  it("of the gateway is not processed a second time", async () => {
    upstream = answers(200, {}, "never");
    const answer = await call("/mcp", { token: "" });
    expect(answer.status).toBe(401);
    expect(all(answer, "www-authenticate")).toEqual([`Bearer resource_metadata="${metadata}/mcp"`]);
    expect([refusals, received]).toEqual([[], []]);
  });
});
