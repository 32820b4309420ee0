import { readFile } from "node:fs/promises";
import { decodeJwt } from "jose";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type E2e, startE2e } from "../../support/e2e.ts";

/* Envoy's access log, as `envoy-config` configures it: who called what. */
let e2e: E2e;
let token: string;

beforeAll(async () => {
  e2e = await startE2e();
  token = await e2e.externalToken("alice", e2e.urls.open);
});
afterAll(() => e2e?.close());

/** Sends a body to the open route. @returns status and request id */
async function send(
  body: string,
  authorization = `Bearer ${token}`,
  query = "",
): Promise<{ status: number; id: string }> {
  const headers = { "content-type": "application/json", accept: "application/json, text/event-stream" };
  const response = await e2e.fetch(`${e2e.urls.open}${query}`, {
    method: "POST",
    headers: authorization === "" ? headers : { ...headers, authorization },
    body,
  });
  await response.text();
  return { status: response.status, id: response.headers.get("x-request-id") ?? "no request id" };
}

/** The lines of these requests, which Envoy writes some seconds later. */
async function linesOf(requests: readonly { readonly id: string }[]): Promise<string[]> {
  const read = async () => {
    const lines = (await readFile(e2e.envoy.logFile, "utf8")).split("\n").slice(0, -1);
    return requests.flatMap(({ id }) => lines.find((line) => line.includes(`"request_id":"${id}"`)) ?? []);
  };
  await expect.poll(async () => (await read()).length, { interval: 100 }).toBe(requests.length);
  return read();
}

const call = (params: object) => JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/call", params });
const hidden = "only for the server";

test("a call is logged with its user, client and tool, without arguments and without tokens", async () => {
  const requests = [
    await send(call({ name: "greet", arguments: { name: hidden } })),
    await send(call({ name: "x".repeat(1000), arguments: {} })),
    await send('{"jsonrpc":"2.0","id":1,"method":"tools/list"}'),
    await send(call({ name: "greet" }), ""),
  ];
  const lines = await linesOf(requests);
  const alice = { user: "company/alice", mcp_client: decodeJwt(token).client_id };
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([
    { route: "open", mcp: "tools/call", tool: "greet", ...alice },
    // The client writes the name: it is cut.
    { mcp: "tools/call", tool: "x".repeat(256), ...alice },
    { mcp: "tools/list", tool: null, ...alice },
    // Without a valid token, nothing of the request is known.
    { status: 401, tool: null, user: null, mcp_client: null },
  ]);
  for (const secret of [hidden, token]) expect(lines.join()).not.toContain(secret);
});

test("a line says what the client has asked for, and what the upstream got, both without the query", async () => {
  const body = '{"jsonrpc":"2.0","id":1,"method":"tools/list"}';
  const [line = ""] = await linesOf([await send(body, undefined, `?secret=${hidden.replaceAll(" ", "-")}`)]);
  const { authority, path, requested } = JSON.parse(line);
  const { host } = new URL(e2e.urls.open);
  expect({ requested, path }).toEqual({ requested: `${host}/`, path: "/v1/tools" });
  expect(authority).not.toBe(host);
  expect(line).not.toContain("secret=");
});

test("a call whose name comes after many KiB of arguments, or not at all, reaches the server all the same", async () => {
  const text = "x".repeat(256 * 1024);
  const usual = await send(call({ name: "greet", arguments: { name: "Bob", text } }));
  const late = await send(call({ arguments: { name: "Bob", text }, name: "greet" }));
  const nameless = await send(call({ arguments: {} }));
  expect([usual.status, late.status, nameless.status]).toEqual([200, 200, 200]);
  const lines = await linesOf([usual, late, nameless]);
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([
    { tool: "greet", details: "via_upstream" },
    { mcp: "tools/call", tool: null, user: "company/alice", details: "via_upstream" },
    { mcp: "tools/call", tool: null, user: "company/alice", details: "via_upstream" },
  ]);
});
