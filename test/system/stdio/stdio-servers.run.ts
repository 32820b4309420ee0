import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { freePort } from "../../../dev/demo/free-port.ts";
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
it("the page ends when every server was started, so that npx and uvx have installed them; the bridge's log says so", () => {
  // By the first bridge, and by the one that was started after a server was added.
  expect(readFileSync(join(page.folder, "started"), "utf8")).toBe("\n\n");
  const log = readFileSync(join(page.folder, "gateway/bridge.log"), "utf8").split("\n");
  const said = log.filter((line) => /^(?:starting|all servers) /.test(line));
  const names = ["files", "memory", "everything", "time"];
  expect(said).toEqual([...names.map((name) => `starting ${name}`), "all servers have started"]);
});

it("a bridge names the servers that have not started", async () => {
  const folder = join(page.folder, "broken");
  mkdirSync(folder);
  const config = JSON.parse(readFileSync(join(page.folder, "gateway/bridge.json"), "utf8"));
  const missing = { command: "/nowhere/server", args: [], env: {} };
  const { files } = config.servers;
  const broken = { ...config, port: await freePort(), servers: { missing, files, again: missing } };
  writeFileSync(join(folder, "bridge.json"), JSON.stringify(broken), { mode: 0o600 });
  const bridge = spawn(page.uv, ["run", "--script", "../gateway/bridge.py", "bridge.json"], { cwd: folder });
  onTestFinished(() => void bridge.kill());
  const said: string[] = [];
  for await (const line of createInterface(bridge.stderr)) {
    if (/^(?:starting|all servers|\S+ cannot) /.test(line)) said.push(line);
    if (line.startsWith("all servers")) break;
  }
  expect(said).toEqual([
    "starting missing",
    expect.stringMatching(/^missing cannot be started: .*\/nowhere\/server/),
    "starting files",
    "starting again",
    expect.stringMatching(/^again cannot be started: /),
    "all servers but missing, again have started",
  ]);
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

  it.runIf(hasAggregates)("the command for a terminal signs in and lists the tools", async () => {
    const listed = await page.listed();
    for (const name of ["files__read_text_file", "memory__read_graph", "time__get_current_time"])
      expect(listed).toContain(name);
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

it("the page's last block ends the bridge, its servers, the sidecar and Envoy", async () => {
  expect(page.running().length).toBeGreaterThan(3);
  page.stop();
  await expect.poll(() => page.running(), { timeout: 60_000 }).toEqual([]);
});
