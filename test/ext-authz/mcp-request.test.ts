import type { IncomingMessage } from "node:http";
import { PassThrough } from "node:stream";
import { describe, expect, it } from "vitest";
import { readMcpRequest } from "../../src/ext-authz/mcp-request.ts";

const call = { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "x" } };

/** A request as Node.js reads it. */
function incoming(body?: string, headers: Record<string, string> = {}) {
  const stream = new PassThrough();
  if (body !== undefined) stream.end(body);
  return Object.assign(stream, { headers }) as unknown as IncomingMessage & PassThrough;
}
const read = (request: IncomingMessage, user = "company/alice", max = 1024) =>
  readMcpRequest(request, user, max);

describe("the body of a call without consent", () => {
  it.each([
    ["a request", call, { id: 1, method: "tools/call", params: { name: "x" } }],
    ["an id that is a text", { ...call, id: "a" }, { id: "a", method: "tools/call", params: { name: "x" } }],
    ["no parameters", { ...call, params: undefined }, { id: 1, method: "tools/call", params: {} }],
    ["a list as parameters", { ...call, params: [1] }, { id: 1, method: "tools/call", params: {} }],
    ["a notification", { ...call, id: undefined }, undefined],
    ["an id that is null", { ...call, id: null }, undefined],
    ["a batch", [call], undefined],
    ["a response", { jsonrpc: "2.0", id: 1, result: {} }, undefined],
    ["another version", { ...call, jsonrpc: "1.0" }, undefined],
    ["null", null, undefined],
  ])("is read if it is one request: %s", async (_name, body, expected) => {
    expect(await read(incoming(JSON.stringify(body)))).toEqual(expected);
  });

  it("is not read if it is not JSON, is encoded, or is longer than allowed, announced or not", async () => {
    expect(await read(incoming("{"))).toBeUndefined();
    expect(await read(incoming(JSON.stringify(call), { "content-encoding": "gzip" }))).toBeUndefined();
    expect(await read(incoming(undefined, { "content-length": "1025" }))).toBeUndefined();
    expect(
      await read(incoming(JSON.stringify({ ...call, params: { text: "x".repeat(2000) } }))),
    ).toBeUndefined();
  });

  it("a body that does not end is given up, and so is one whose client disconnects", async () => {
    const gone = incoming();
    const reading = read(gone);
    gone.destroy();
    expect(await reading).toBeUndefined();
    expect(await read(incoming())).toBeUndefined();
  });

  it("of one user, at most 16 are read at a time; of others, further ones", async () => {
    const slow = Array.from({ length: 16 }, () => incoming());
    const reading = slow.map((request) => read(request, "company/slow"));
    expect(await read(incoming(JSON.stringify(call)), "company/slow")).toBeUndefined();
    expect(await read(incoming(JSON.stringify(call)), "company/other")).toBeDefined();
    for (const request of slow) request.end(JSON.stringify(call));
    expect((await Promise.all(reading)).every((one) => one !== undefined)).toBe(true);
    expect(await read(incoming(JSON.stringify(call)), "company/slow")).toBeDefined();
  });
});
