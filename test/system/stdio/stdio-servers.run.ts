import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { bridgeBehavior } from "./bridge-behavior.ts";
import { measureCost } from "./cost.ts";
import { hasAggregates, runStdioPage, type StdioPage } from "./stdio-page.ts";

let page: StdioPage;
beforeAll(async () => {
  page = await runStdioPage();
}, 300_000);
afterAll(() => page?.close());

const called = async (client: Client, name: string, args: Record<string, unknown> = {}) =>
  JSON.stringify((await client.callTool({ name, arguments: args })).content);
const connect = async (name: string, login?: "alice" | "bob") => (await page.client(name, login)).connect();
it("servers are started ahead of their first session, so that npx and uvx have installed them", async () => {
  await expect.poll(() => existsSync(join(page.folder, "started")), { timeout: 60_000 }).toBe(true);
});

describe("the servers of docs/stdio.md, through Envoy and the sidecar", () => {
  it("files: started by npx", async () => {
    const client = await connect("files");
    expect(await called(client, "read_text_file", { path: join(page.files, "readme.txt") })).toContain(
      "from a server that speaks stdio",
    );
  });

  it("memory: with the environment of the file", async () => {
    const client = await connect("memory");
    const entity = { name: "gateway", entityType: "system", observations: ["has one URL"] };
    await called(client, "create_entities", { entities: [entity] });
    expect(await called(client, "read_graph")).toContain("has one URL");
    expect(readFileSync(join(page.folder, "memory.jsonl"), "utf8")).toContain("has one URL");
  });

  it("time: started by uvx", async () => {
    expect(await called(await connect("time"), "get_current_time", { timezone: "UTC" })).toContain("UTC");
  });

  it("search: a remote server, whose key only the gateway sends", async () => {
    expect(await called(await connect("search"), "greet", { name: "Alice" })).toContain("Hello, Alice!");
    const sent = page.vendor.requests.at(-1)?.headers.filter(([name]) => name.toLowerCase() === "x-api-key");
    expect(sent?.map(([, value]) => value)).toEqual([page.secrets.key]);
  });

  it.runIf(hasAggregates)("all: one URL for the tools of every server", async () => {
    const client = await connect("all");
    const names = async () => (await client.listTools()).tools.map(({ name }) => name);
    const wanted = ["files__read_text_file", "memory__read_graph", "time__get_current_time", "search__greet"];
    // One that takes longer than ten seconds to start appears in a later list.
    await expect.poll(names, { timeout: 60_000 }).toEqual(expect.arrayContaining(wanted));
    expect(await called(client, "memory__read_graph")).toContain("has one URL");
    expect(await called(client, "time__get_current_time", { timezone: "UTC" })).toContain("UTC");
  });

  it("a killed process ends its session only, and the next session works", async () => {
    const others = page.processes();
    const other = await connect("files", "bob");
    const client = await connect("files");
    const [mine] = page
      .processes()
      .filter((pid) => !others.includes(pid))
      .slice(-1);
    expect(await called(client, "list_allowed_directories")).toContain(page.files);
    process.kill(mine ?? 0, "SIGKILL");
    // The call under way or the one after it learns of it; then the session is gone, as MCP says it.
    await expect
      .poll(() => called(client, "list_allowed_directories").catch(String), { timeout: 60_000 })
      .toMatch(/Session not found/);
    expect(await called(other, "list_allowed_directories")).toContain(page.files);
    expect(await called(await connect("files"), "list_allowed_directories")).toContain(page.files);
  });

  it("a session that its client ends leaves no process behind", async () => {
    const before = page.processes();
    const client = await connect("files");
    const [mine] = page.processes().filter((pid) => !before.includes(pid));
    expect(mine).toBeDefined();
    const { transport } = client;
    if (!(transport instanceof StreamableHTTPClientTransport)) throw new Error("not over HTTP");
    await transport.terminateSession();
    await expect.poll(() => existsSync(`/proc/${mine}`)).toBe(false);
  });
});

describe("the bridge", () => bridgeBehavior(() => page));

it("what a call costs", async () => {
  const table = await measureCost(page);
  console.log(table);
  expect(table).toContain("| 8 |");
}, 900_000);
