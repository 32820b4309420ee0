import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Asked, askedPost, startChecks } from "./start-checks.ts";

const yaml = `
issuer: https://auth.test
sign_in: {providers: [{issuer: https://idp.test, client_id: x}]}
policy: {allow: {or: [{accept: true}]}}
routes:
  - {id: root, name: Root, from: https://mcp.test, to: http://127.0.0.1:1/mcp, mcp: {server: {upstream_auth: none}}}
`;
let checks: Awaited<ReturnType<typeof startChecks>>;
let token: string;
beforeAll(async () => {
  checks = await startChecks(yaml);
  token = await checks.token();
});
afterAll(() => checks.close());

/** A valid request with some parts replaced. */
function http(parts: Record<string, unknown>, headers: Record<string, string> = {}): Asked {
  return askedPost(parts, { authorization: `Bearer ${token}`, ...headers });
}
const raw = (...headers: [string, string][]): Asked => ({
  rawHeaders: [["authorization", `Bearer ${token}`], ...headers],
});

describe("a malformed check is denied with a reason", () => {
  test("and the unmodified request is allowed", async () => {
    expect((await checks.ask(http({}))).status).toBe(0);
  });

  test.each<[string, number, string, () => Asked]>([
    ["an empty check", 400, "malformed_check", () => ({ attributes: {} })],
    ["no host", 400, "no_host", () => http({ host: "" })],
    ["a host with user info", 400, "bad_host", () => http({ host: "mcp.test@evil.test" })],
    ["a host with a path", 400, "bad_host", () => http({ host: "mcp.test/x" })],
    ["a non-ASCII host", 400, "bad_host", () => http({ host: "mcp.tést" })],
    ["two hosts", 400, "bad_host", () => http({}, { ":authority": "other.test" })],
    ["no method", 400, "bad_method", () => http({ method: "" })],
    ["a method with a space", 400, "bad_method", () => http({ method: "GET /" })],
    ["CONNECT", 400, "bad_method", () => http({ method: "CONNECT" })],
    ["TRACE", 400, "bad_method", () => http({ method: "TRACE" })],
    ["no path", 400, "bad_path", () => http({ path: "" })],
    ["an absolute-form target", 400, "bad_path", () => http({ path: "http://mcp.test/" })],
    ["an asterisk", 400, "bad_path", () => http({ path: "*", method: "OPTIONS" })],
    ["a fragment", 400, "bad_path", () => http({ path: "/#x" })],
    ["a dot segment", 400, "bad_path", () => http({ path: "/a/./b" })],
    ["two dots", 400, "bad_path", () => http({ path: "/a/../b" })],
    ["two dots at the end", 400, "bad_path", () => http({ path: "/a/.." })],
    ["encoded dots", 400, "bad_path", () => http({ path: "/a/%2e%2E/b" })],
    ["half-encoded dots", 400, "bad_path", () => http({ path: "/a/.%2e/b" })],
    ["dots with a path parameter", 400, "bad_path", () => http({ path: "/a/..;x=1/b" })],
    ["an encoded slash", 400, "bad_path", () => http({ path: "/a%2fb" })],
    ["an encoded backslash", 400, "bad_path", () => http({ path: "/a%5Cb" })],
    ["a backslash", 400, "bad_path", () => http({ path: "/a\\b" })],
    ["an encoded NUL", 400, "bad_path", () => http({ path: "/a%00" })],
    ["an encoded newline", 400, "bad_path", () => http({ path: "/a%0ab" })],
    ["a broken percent-encoding", 400, "bad_path", () => http({ path: "/a%zz" })],
    ["a quote in the path", 400, "bad_path", () => http({ path: '/a"b' })],
    ["a non-ASCII path", 400, "bad_path", () => http({ path: "/é" })],
    ["a control character in the query", 400, "bad_path", () => http({ path: "/?a=\u0001" })],
    ["a token in the query", 400, "token_in_query", () => http({ path: "/?a=1&access_token=abc" })],
    ["a token in the query, encoded", 400, "token_in_query", () => http({ path: "/?%61ccess%5ftoken=abc" })],
    ["the external token elsewhere in the query", 400, "token_in_url", () => http({ path: `/?t=${token}` })],
    ["two Authorization headers", 400, "repeated_header", () => raw(["Authorization", "Bearer x"])],
    [
      "two joined Authorization values",
      400,
      "repeated_header",
      () => http({}, { authorization: `Bearer ${token},Bearer x` }),
    ],
    [
      "two Content-Types",
      400,
      "repeated_header",
      () => raw(["content-type", "a/b"], ["content-type", "c/d"]),
    ],
    [
      "two sessions",
      400,
      "repeated_header",
      () => raw(["mcp-session-id", "theirs"], ["mcp-session-id", "mine"]),
    ],
    ["a non-ASCII header", 400, "bad_header", () => raw(["content-type", "caf\u00e9"])],
    ["a non-ASCII header, joined encoding", 400, "bad_header", () => http({}, { "content-type": "café" })],
    ["a control character in a header", 400, "bad_header", () => raw(["x-a", "a\u0000b"])],
    ["a newline in a header", 400, "bad_header", () => raw(["x-a", "a\r\nx-b: c"])],
    ["a header name with a space", 400, "bad_header", () => raw(["x a", "b"])],
    ["a header without a name", 400, "bad_header", () => raw(["", "b"])],
    ["61 KiB of headers", 431, "headers_too_large", () => http({}, { "x-a": "x".repeat(61 * 1024) })],
  ])("%s: %i %s", async (_name, status, error, make) => {
    const answer = await checks.ask(make());
    expect(answer.status).toBe(status);
    expect(JSON.parse(answer.body)).toMatchObject({
      error,
      error_description: expect.stringMatching(/\w{3}/),
    });
    expect(answer.set).toEqual({});
    expect(answer.headers["cache-control"]).toBe("no-store");
  });

  test("a header called __proto__ is a header like any other", async () => {
    const answer = await checks.ask(raw(["__proto__", `copy of ${token}`]));
    expect(answer.status).toBe(0);
    expect(answer.removed).toContain("__proto__");
  });

  test("a request id from outside is used only if it is valid", async () => {
    const shown = JSON.parse((await checks.ask({ headers: { "x-request-id": "<b>" } })).body).request_id;
    expect(shown).toMatch(/^[0-9a-f-]{36}$/);
  });

  test("every denial logs one line with its reason", async () => {
    const before = checks.log.length;
    await checks.ask(http({ path: "/a/../b" }, { "x-request-id": "r-9" }));
    const lines = checks.log.slice(before).map((line) => JSON.parse(line));
    expect(lines.filter(({ requestId }) => requestId !== undefined)).toEqual([
      expect.objectContaining({ level: "info", requestId: "r-9", reason: "bad_path", status: 400 }),
    ]);
  });
});
