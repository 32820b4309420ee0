import { describe, expect, it } from "vitest";
import type { PolicyInput } from "../../src/model/subject.ts";
import { lookalikes } from "./lookalikes.ts";
import { people } from "./people.ts";
import { readByPython, readers } from "./readers.ts";
import { routeWith } from "./route-with.ts";

const { policy } = routeWith(
  "policy:\n  allow: {and: [{accept: true}]}\n  deny: {and: [{mcp_tool: {is: drop_table}}]}",
);
const ann = people.ann!;

function post(
  body: string | Buffer,
  headers: Readonly<Record<string, string | undefined>> = {},
  method = "POST",
): PolicyInput {
  return {
    caller: ann,
    method,
    path: "/mcp",
    now: 0,
    headers: { "content-type": "application/json", ...headers },
    body: Buffer.from(body),
  };
}

describe("bodies that two parsers read as different calls are rejected", () => {
  const byPython = readByPython(lookalikes.map(({ body }) => Buffer.from(body)));
  const rows = lookalikes.map((lookalike, index) => ({ ...lookalike, byPython: byPython[index] }));

  it.each(rows)("$title: $reason", ({ body, headers, method, reason }) => {
    expect(policy.decide(post(body, headers, method))).toMatchObject({ kind: "deny", status: 400, reason });
  });

  it.each(rows)("$title: two readers differ", ({ body, headers, method, readers: pair, byPython }) => {
    const given = Object.entries({ "content-type": "application/json", ...headers }).flatMap(
      ([name, value]) => (value === undefined ? [] : [[name, value] as const]),
    );
    const sent = { method: method ?? "POST", headers: Object.fromEntries(given), body: Buffer.from(body) };
    const [one, other] = pair.map((name) => (name === "python" ? byPython : readers[name](sent)));
    expect(one).not.toBe(other);
  });

  it("Python and JSON.parse agree on unambiguous bodies", () => {
    const plain = Buffer.from(
      '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"b":[1,"ä"]}}}',
    );
    expect(readByPython([plain])).toEqual([readers["JSON.parse"]({ headers: {}, body: plain })]);
  });

  it("has at least 40 cases", () => {
    expect(lookalikes.length).toBeGreaterThanOrEqual(40);
  });
});

describe("bodies that every parser reads alike are allowed", () => {
  const call = (members: string) => `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{${members}}}`;
  const query = call('"name":"query"');
  const deep = "[".repeat(100) + "]".repeat(100);
  it.each([
    ["plain", query],
    ["blanks around and between", ` \r\n\t${query.replaceAll(",", " ,\n ")}\n`],
    [
      "escapes in the method and the name",
      query.replace("tools/call", "tools\\/c\\u0061ll").replace("query", "qu\\u0065ry"),
    ],
    ["an id that is a string", query.replace(":1,", ':"a-1",')],
    ["an id that is 0", query.replace(":1,", ":0,")],
    ["an id below 0", query.replace(":1,", ":-7,")],
    ["an id written as 1.0", query.replace(":1,", ":1.0,")],
    [
      "keys of a tool's arguments in any letter case",
      call('"name":"query","arguments":{"Name":"x","name":"y","METHOD":"z","__proto__":1}'),
    ],
    [
      "the same key in different objects",
      call('"name":"query","arguments":{"rows":[{"id":1,"name":"a"},{"id":1,"name":"b"}]}'),
    ],
    ["deep arguments", call(`"name":"query","arguments":{"a":${deep}}`)],
    [
      "numbers that no double can hold, in arguments",
      call('"name":"query","arguments":{"a":123456789012345678901234567890}'),
    ],
    ["members unknown to JSON-RPC", query.replace('"id"', '"trace":"x","id"')],
    ["a non-ASCII name", call('"name":"größe_ändern"')],
    [
      "progress token and input responses",
      call(
        '"name":"query","_meta":{"progressToken":1},"inputResponses":{"a":{"action":"accept"}},"requestState":"x"',
      ),
    ],
    ["params null", '{"jsonrpc":"2.0","id":1,"method":"tools/list","params":null}'],
    ["an error response without id", '{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"x"}}'],
    ["a batch with one call", `[${query}]`],
  ])("%s", (_, body) => {
    expect(policy.decide(post(body))).toMatchObject({ kind: "allow" });
  });

  it.each([
    ["application/json;charset=UTF-8"],
    ['application/json; charset="utf-8"'],
    ["Application/JSON"],
    ["application/json "],
  ])("with the type %s", (type) => {
    expect(policy.decide(post(query, { "content-type": type }))).toMatchObject({ kind: "allow" });
  });

  it.each([
    [query, { "mcp-method": "tools/call", "mcp-name": "query" }],
    [query, { "mcp-method": "tools/call" }],
    [query, { "mcp-name": "=?base64?cXVlcnk=?=" }],
    [call('"name":"größe"'), { "mcp-method": "tools/call", "mcp-name": "=?base64?Z3LDtsOfZQ==?=" }],
    [
      '{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///a"}}',
      { "mcp-method": "resources/read", "mcp-name": "file:///a" },
    ],
    [
      '{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"greet"}}',
      { "mcp-method": "prompts/get", "mcp-name": "greet" },
    ],
    [
      '{"jsonrpc":"2.0","id":1,"method":"tools/list"}',
      { "mcp-method": "tools/list", "content-length": "46" },
    ],
  ])("%s with matching headers", (body, headers) => {
    expect(policy.decide(post(body, headers))).toMatchObject({ kind: "allow" });
  });
});

describe("the body is limited", () => {
  const small = routeWith(
    "mcp: {server: {max_request_bytes: 1024}}\npolicy:\n  allow: {and: [{accept: true}]}\n  deny: {and: [{mcp_tool: drop_table}]}",
  ).policy;
  const padded = (length: number) => {
    const start = '{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"';
    return `${start}${"x".repeat(length - start.length - 3)}"}}`;
  };

  it("accepts a body of exactly the limit", () => {
    expect(small.maxBodyBytes).toBe(1024);
    expect(small.decide(post(padded(1024)))).toMatchObject({ kind: "allow" });
  });
  it("rejects one byte more with 413", () => {
    expect(small.decide(post(padded(1025)))).toMatchObject({
      kind: "deny",
      status: 413,
      reason: "body_too_large",
    });
  });
  it("rejects a truncated body with 413", () => {
    const cut = post(padded(1024), { "x-envoy-auth-partial-body": "true" });
    expect(small.decide(cut)).toMatchObject({ kind: "deny", status: 413, reason: "body_too_large" });
  });
  it.each([
    ["an empty one", Buffer.alloc(0)],
    ["none, as if Envoy were not configured to send it", undefined],
  ])("rejects %s", (_, body) => {
    expect(small.decide({ ...post(""), body })).toMatchObject({ kind: "deny", reason: "body_missing" });
  });
  it("supports nesting as deep as fits into the limit", () => {
    const deep = routeWith("policy: {allow: {and: [{accept: true}]}}\ntools: {deny: [x]}").policy;
    expect(deep.decide(post("[".repeat(1_000_000)))).toMatchObject({ reason: "invalid_json" });
    expect(deep.decide(post("[".repeat(500_000) + "]".repeat(500_000)))).toMatchObject({
      reason: "too_deep",
    });
  });
  it("reveals nothing about the body to a caller without access", () => {
    const { policy: closed } = routeWith("policy: {allow: {and: [{groups: admins}]}}\ntools: {deny: [x]}");
    expect(closed.decide(post("not JSON"))).toMatchObject({ status: 403, reason: "not_allowed" });
  });
});
