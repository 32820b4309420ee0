import { afterAll, beforeAll, expect, it } from "vitest";
import { headersOf, mirroredBy } from "../../src/aggregation/parameter-headers.ts";
import { connect } from "../system/aggregation/clients.ts";
import type { Member } from "../system/aggregation/members/member.ts";
import { modernMember } from "../system/aggregation/members/modern-member.ts";
import { startReplicas, type TestReplicas } from "./replicas.ts";

let member: Member;
let replicas: TestReplicas;
beforeAll(async () => {
  member = await modernMember("files");
  // The member verifies the headers.
  replicas = await startReplicas([{ id: "files", url: member.url }], { count: 2 });
});
afterAll(async () => {
  await replicas?.close();
  await member?.close();
});

const callsSince = (before: number) =>
  member.requests.slice(before).flatMap(({ body }) => /"method":"(tools\/[a-z]+)"/.exec(body)?.[1] ?? []);

it.each(["2025-06-18", "2025-11-25", "2025-11-25, second SDK", "2026-07-28"] as const)(
  "a client of %s calls a tool of a 2026-07-28 member that wants parameters as headers, too",
  async (kind) => {
    const client = await connect(kind, {
      url: replicas.url(),
      token: replicas.token,
      fetch: replicas.roundRobin,
    });
    if (kind === "2026-07-28") await client.listTools();
    const args = { region: "São Paulo", options: { copies: 2 } };
    for (let calls = 0; calls < 3; calls += 1)
      expect((await client.call("files__store", args)).text).toBe("stored in São Paulo 2 times");
    // Both replicas know the headers by now.
    const before = member.requests.length;
    for (const region of ["eu", " padded ", ""])
      expect((await client.call("files__store", { region })).text).toBe(`stored in ${region} 1 times`);
    expect(callsSince(before)).toEqual(["tools/call", "tools/call", "tools/call"]);
    await client.close();
  },
);

it("headers are made only of parameters that may have them", () => {
  const inputSchema = {
    type: "object",
    properties: {
      region: { type: "string", "x-mcp-header": "Region" },
      line: { type: "string", "x-mcp-header": "Evil\r\nAuthorization" },
      deep: { type: "object", properties: { on: { type: "boolean", "x-mcp-header": "On" } } },
      list: { type: "array", items: { type: "string", "x-mcp-header": "Item" } },
      constructor: { type: "string", "x-mcp-header": "Inherited" },
    },
  };
  const mirrored = mirroredBy({ name: "store", inputSchema });
  expect(mirrored.map(({ name }) => name)).toEqual(["Region", "On", "Inherited"]);
  expect(headersOf(mirrored, { region: "a\r\nb: c", deep: { on: false }, list: ["x"] })).toEqual({
    "mcp-param-region": `=?base64?${Buffer.from("a\r\nb: c").toString("base64")}?=`,
    "mcp-param-on": "false",
  });
  // Envoy would reject the call because of its length.
  expect(headersOf(mirrored, { region: "x".repeat(8_193), deep: { on: true } })).toEqual({
    "mcp-param-on": "true",
  });
  expect(headersOf(mirrored, { region: { toString: "x" }, deep: null })).toEqual({});
  expect(headersOf(mirrored, undefined)).toEqual({});
});

it("a schema that repeats a long name above many headers does not become longer than the member has sent it", () => {
  const leaves = Object.fromEntries(
    Array.from({ length: 5_400 }, (_, index) => [index.toString(36), { "x-mcp-header": "a" }]),
  );
  const nested = (key: string) => ({
    name: "store",
    inputSchema: { type: "object", properties: { [key]: { type: "object", properties: leaves } } },
  });
  const long = nested("k".repeat(100 * 1024));
  expect(JSON.stringify(long).length).toBeLessThan(256 * 1024);
  expect(mirroredBy(long).length).toBe(0);
  expect(mirroredBy(nested("options")).length).toBeLessThan(100);
});
