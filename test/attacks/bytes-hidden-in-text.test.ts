import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { decodeCheckRequest } from "../../src/ext-authz/wire/decode.ts";
import { readJsonRpc } from "../../src/policy/json-rpc.ts";
import { envoyService } from "../ext-authz/envoy-service.ts";
import { askedPost, startChecks } from "../ext-authz/start-checks.ts";
import { readers } from "../policy/readers.ts";

/*
 * Envoy Gateway sends request bodies in the check's `body`, a string, and Envoy replaces each byte in it that is not valid UTF-8 by
 * `!`. The upstream gets the original: a server that drops such bytes, or decodes overlong forms, reads another call than the check.
 */

const file = `
issuer: https://auth.test
routes:
  - id: notes
    from: https://mcp.test
    to: http://127.0.0.1:9/mcp
    mcp: {server: {upstream_auth: none}}
    tools: {deny: [drop_table]}
    policy: [{allow: {and: [{accept: true}]}}]`;

/** What Envoy 1.39 and 1.40 put into `body` for these bytes (measured). */
function asEnvoySends(body: Buffer): Buffer {
  const text: number[] = [];
  for (let at = 0; at < body.length; ) {
    const length = [1, 2, 3, 4].find((bytes) => isCharacter(body.subarray(at, at + bytes)));
    if (length === undefined) text.push(0x21);
    else text.push(...body.subarray(at, at + length));
    at += length ?? 1;
  }
  return Buffer.from(text);
}
function isCharacter(bytes: Buffer): boolean {
  try {
    return [...new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes)].length === 1;
  } catch {
    return false;
  }
}

const call = (params: string) => `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{${params}}}`;
const harmless = '"name":"query"';
/** `%` stands for a byte that is not UTF-8, `~` for an overlong quotation mark. */
const bytes = (text: string) =>
  Buffer.from(text.replaceAll("%", "\xff").replaceAll("~", "\xc0\xa2"), "latin1");

const attacks: readonly [title: string, body: string, reader: keyof typeof readers][] = [
  [
    "the name of the tool is hidden in a second key",
    call(`${harmless},"na%me":"drop_table"`),
    "drops bad bytes",
  ],
  [
    "params are hidden in a second key",
    `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{${harmless}},"par%ams":{"name":"drop_table"}}`,
    "drops bad bytes",
  ],
  [
    "the method is hidden",
    `{"jsonrpc":"2.0","id":1,"method":"tools%/call","params":{"name":"drop_table"}}`,
    "drops bad bytes",
  ],
  ["the name of a denied tool has one byte more", call('"name":"drop%_table"'), "drops bad bytes"],
  [
    "the version",
    '{"jsonrpc":"2.0%","id":1,"method":"tools/call","params":{"name":"drop_table"}}',
    "drops bad bytes",
  ],
  [
    "the id",
    '{"jsonrpc":"2.0","id":"a%","method":"tools/call","params":{"name":"drop_table"}}',
    "drops bad bytes",
  ],
  [
    "a string of the arguments ends early",
    call(`${harmless},"arguments":{"path":"a~},~name~:~drop_table~,~arguments~:{~x~:~"}`),
    "takes overlong bytes",
  ],
  [
    "overlong forms whose second byte is a letter",
    call(
      `${harmless},"arguments":{"path":"a\xc0b},\xc0bname\xc0b:\xc0bdrop_table\xc0b,\xc0barguments\xc0b:{\xc0bx\xc0b:\xc0b"}`,
    ),
    "takes overlong bytes unchecked",
  ],
  [
    "a byte takes the backslash of an escaped quotation mark with it",
    call(
      `${harmless},"arguments":{"path":"a\xc2\\"},\xc2\\"name\xc2\\":\xc2\\"drop_table\xc2\\",\xc2\\"x\xc2\\":{\xc2\\"y\xc2\\":\xc2\\""}`,
    ),
    "swallows the next byte",
  ],
];

let checks: Awaited<ReturnType<typeof startChecks>>;
let authorization: string;
beforeAll(async () => {
  checks = await startChecks(file);
  authorization = `Bearer ${await checks.token()}`;
});
afterAll(() => checks?.close());

const ask = (http: { body?: string; raw_body?: Buffer }, more: Record<string, string> = {}) =>
  checks.ask(
    askedPost(http, { ":authority": "mcp.test", "content-type": "application/json", authorization, ...more }),
  );
const text = (body: Buffer) => ({ body: asEnvoySends(body).toString("utf8") });

describe("bytes that are not UTF-8, in a body that Envoy sends as text", () => {
  test.each(attacks)("%s: a server reads another call", (_title, body, reader) => {
    const given = { headers: { "content-type": "application/json" }, body: bytes(body) };
    const shown = { ...given, body: asEnvoySends(given.body) };
    expect(readers["JSON.parse"](shown)).not.toBe("unreadable");
    expect(readers[reader](given)).not.toBe("unreadable");
    expect(readers[reader](given)).not.toBe(readers["JSON.parse"](shown));
  });

  test.each(attacks)("%s: denied", async (_title, body) => {
    const answer = await ask(text(bytes(body)));
    expect(answer.status).toBe(400);
    expect(answer.body).toContain("not UTF-8");
  });

  test("bytes that are not UTF-8 are denied where a gateway sends them unchanged", async () => {
    const { Check } = envoyService(
      "envoy/service/auth/v3/external_auth.proto",
      "envoy.service.auth.v3.Authorization",
    );
    const encoded = Check?.requestSerialize({ attributes: { request: { http: { body: "a" } } } });
    if (encoded === undefined) throw new Error("no Check in Envoy's definitions");
    encoded[encoded.length - 1] = 0xff;
    const body = decodeCheckRequest(encoded).http?.textBody;
    expect(body).toEqual(Buffer.from([0xff]));
    const headers = { "content-type": "application/json" };
    expect(readJsonRpc({ method: "POST", headers, body, bodyIsText: true }, 1000)).toMatchObject({
      reason: "invalid_utf8",
    });
    expect((await ask({ raw_body: bytes(call('"name":"query%"')) })).body).toContain("not valid UTF-8");
  });

  test.each([
    ["plain", call(harmless)],
    ["escaped ones anywhere in the arguments", call(`${harmless},"arguments":{"a\\u0021":"\\u0021\\u0021"}`)],
    ["other characters", call(`${harmless},"arguments":{"text":"Grüße 日本語 😀"}`)],
  ])("allowed: %s", async (_title, body) => {
    expect((await ask({ body })).status).toBe(0);
  });

  test("a denied tool is denied, and a repeated key", async () => {
    expect((await ask({ body: call('"name":"drop_table"') })).body).toContain("tool_not_allowed");
    expect((await ask({ body: call(`${harmless},"name":"drop_table"`) })).status).toBe(400);
  });

  test("a body that is longer or shorter than it says", async () => {
    const body = call(harmless);
    expect((await ask({ body }, { "content-length": String(body.length + 1) })).status).toBe(400);
    expect((await ask({ body }, { "x-envoy-auth-partial-body": "true" })).status).toBe(413);
    expect((await ask({ body: call(`${harmless},"arguments":{"a":"${"a".repeat(1 << 20)}"}`) })).status).toBe(
      413,
    );
  });

  test("two exclamation marks are no attack as bytes", async () => {
    expect((await ask({ raw_body: Buffer.from(call(`${harmless},"arguments":{"a!":"!!"}`)) })).status).toBe(
      0,
    );
  });

  test("Mcp-Name with a `!` does not name a tool: the header may have hidden a byte", async () => {
    const named = { "mcp-name": "drop!_table" };
    const answer = await ask({ raw_body: Buffer.from(call('"name":"drop!_table"')) }, named);
    expect([answer.status, answer.body]).toEqual([400, expect.stringContaining("header_mismatch")]);
  });

  test("a check with both forms of a body is denied: one of them is not the request's", async () => {
    const answer = await ask({ body: call(harmless), raw_body: Buffer.from(call('"name":"drop_table"')) });
    expect(answer.status).toBe(400);
  });
});
