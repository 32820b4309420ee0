import { describe, expect, it } from "vitest";
import { createToolsStreamFilter } from "../../src/policy/event-stream-filter.ts";
import { filterToolsJson, readToolFilter, toolsAnswerFormat } from "../../src/policy/tool-list-filter.ts";
import { requestFrom } from "./request-from.ts";
import { routeWith } from "./route-with.ts";

const tools = ["query", "list_tables", "drop_table", "admin_users", "write_file"];
const lines = `policy:
  - allow: {and: [{domain: example.com}]}
  - allow: {and: [{groups: contractors}]}
  - deny: {and: [{mcp_tool: {starts_with: admin_}}]}
  - deny: {and: [{groups: contractors}, {not: [{mcp_tool: {in: [query, list_tables]}}]}, {http_method: POST}]}
tools: {deny: ["drop_*"]}`;
const { policy } = routeWith(lines);

function filterOf(who: string, request: string, from = policy): string | undefined {
  const decision = from.decide(requestFrom(who, request));
  if (decision.kind !== "allow") throw new Error(`${decision.kind} by ${decision.rule}`);
  return decision.toolFilter;
}
const shown = (who: string, request = "list") =>
  tools.filter(readToolFilter(filterOf(who, request) ?? "true"));

describe("tools/list shows only allowed tools", () => {
  it.each([
    ["ann", ["query", "list_tables", "write_file"]],
    ["cam", ["query", "list_tables", "write_file"]],
  ])("%s sees %j", (who, expected) => {
    expect(shown(who)).toEqual(expected);
    expect(tools.filter((tool) => policy.decide(requestFrom(who, `call ${tool}`)).kind === "allow")).toEqual(
      expected,
    );
  });

  it("a stream requested by GET shows what a POST could call", () => {
    expect(shown("bob", "GET")).toEqual(["query", "list_tables"]);
    expect(
      tools.filter((tool) => policy.decide(requestFrom("bob", `call ${tool}`)).kind === "allow"),
    ).toEqual(["query", "list_tables"]);
  });

  it("the filter is set only for requests that may list tools", () => {
    const filtered = (request: string) => filterOf("ann", request) !== undefined;
    expect(["list", "batch ping, list", "GET"].map(filtered)).toEqual([true, true, true]);
    expect(["initialize", "call query", "notify x", "DELETE", "answer"].map(filtered)).not.toContain(true);
  });

  it("no filter if a caller may call everything", () => {
    const { policy: all } = routeWith(
      "policy:\n  allow: {and: [{accept: true}]}\n  deny: {and: [{groups: contractors}, {mcp_tool: {contains: x}}]}",
    );
    expect(filterOf("ann", "list", all)).toBeUndefined();
    expect(
      filterOf("ann", "list", routeWith("policy: {allow: {and: [{accept: true}]}}").policy),
    ).toBeUndefined();
  });

  it("contains nothing about the caller", () => {
    expect(filterOf("ann", "list")).not.toMatch(/ann|example|analysts|contractors/);
  });

  it.each(["", "{", "null", "7", '{"maybe":1}', '{"tool":{"kind":"near","value":"x"}}', '{"and":7}'])(
    "an invalid filter (%s) hides everything",
    (text) => {
      expect(tools.filter(readToolFilter(text))).toEqual([]);
    },
  );
});

const mayShow = readToolFilter('{"names":["query","list_*"]}');
const filtered = (text: string | Uint8Array) => {
  const result = filterToolsJson(Buffer.from(text as string), mayShow);
  return result.ok ? Buffer.from(result.body).toString() : undefined;
};

describe("a JSON response", () => {
  it("loses only denied tools, and keeps everything else byte for byte", () => {
    const answer = (list: string) =>
      `{ "id" : 12345678901234567890, "jsonrpc":"2.0",\n "result":{"tools": ${list}, "nextCursor":"é\\u00e9","ttlMs":3.0e2}}`;
    const query = '{"name":"query","inputSchema":{"maximum":9007199254740993}}';
    const drop = '{"description":"]}","name":"drop_table"}';
    const list = '{"name":"list_tables" }';
    expect(filtered(answer(`[ ${query} ,${drop}, ${list}]`))).toBe(answer(`[${query},${list}]`));
    expect(filtered(answer(`[${drop}]`))).toBe(answer("[]"));
    expect(filtered(answer(`[ ${query} , ${list} ]`))).toBe(answer(`[ ${query} , ${list} ]`));
  });

  it("is the same object if nothing has to be removed", () => {
    const body = Buffer.from('{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"query"}]}}');
    const result = filterToolsJson(body, mayShow);
    expect(result.ok && result.body).toBe(body);
  });

  it("becomes private if it was public", () => {
    expect(filtered('{"result":{"tools":[{"name":"query"}],"ttlMs":1,"cacheScope":"public"}}')).toBe(
      '{"result":{"tools":[{"name":"query"}],"ttlMs":1,"cacheScope":"private"}}',
    );
    expect(filtered('{"result":{"cacheScope":"private","tools":[{"name":"x"}]}}')).toBe(
      '{"result":{"cacheScope":"private","tools":[]}}',
    );
  });

  it.each([
    [
      "a batch",
      '[{"id":1,"result":{}},{"id":2,"result":{"tools":[{"name":"x"},{"name":"query"}]}}]',
      '[{"id":1,"result":{}},{"id":2,"result":{"tools":[{"name":"query"}]}}]',
    ],
    [
      "two lists under one key",
      '{"result":{"tools":[{"name":"query"}],"tools":[{"name":"x"}]}}',
      '{"result":{"tools":[{"name":"query"}],"tools":[]}}',
    ],
    ["two results", '{"result":{},"result":{"tools":[{"name":"x"}]}}', '{"result":{},"result":{"tools":[]}}'],
    [
      "a tool with two names",
      '{"result":{"tools":[{"name":"x","name":"query"}]}}',
      '{"result":{"tools":[]}}',
    ],
    [
      "a tool without a name",
      '{"result":{"tools":[{"title":"query"},"query",null,{"name":7}]}}',
      '{"result":{"tools":[]}}',
    ],
    ["a key with an escape", '{"result":{"t\\u006fols":[{"name":"x"}]}}', '{"result":{"t\\u006fols":[]}}'],
  ])("%s", (_, before, after) => {
    expect(filtered(before)).toBe(after);
  });

  it.each([
    ['{"error":{"code":1,"message":"tools"}}'],
    ['{"result":{"content":[{"type":"text","text":"tools"}]}}'],
    ['{"result":{"tools":"none"}}'],
    ['{"result":{"tools":{"listChanged":true}}}'],
    ['{"method":"x","params":{"tools":[{"name":"x"}]}}'],
    ["7"],
    ["null"],
  ])("%s stays", (text) => {
    expect(filtered(text)).toBe(text);
  });

  it.each([
    ["nothing", ""],
    ["no JSON", "<html>"],
    ["half", '{"result":{"tools":[{"name":"x"}'],
    ["a mark", "\uFEFF{}"],
  ])("%s cannot be read", (_, text) => {
    expect(filtered(text)).toBeUndefined();
  });
  it("bytes that are not UTF-8 cannot be read", () => {
    expect(filtered(Uint8Array.from([0x22, 0xff, 0x22]))).toBeUndefined();
  });
  it("excessive nesting cannot be read", () => {
    expect(filtered("[".repeat(200_000) + "]".repeat(200_000))).toBeUndefined();
  });
});

/** The stream's output when it arrives in chunks of this many bytes. */
function streamed(text: string, size = text.length, maxEventBytes = 10_000): string | undefined {
  const filter = createToolsStreamFilter(mayShow, maxEventBytes);
  const bytes = Buffer.from(text);
  const out: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += size) {
    const result = filter.push(bytes.subarray(at, at + size));
    if (!result.ok) return undefined;
    out.push(result.body);
  }
  const rest = filter.end();
  if (!rest.ok) return undefined;
  return Buffer.concat([...out, rest.body]).toString();
}
const list =
  '{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"drop_table"},{"name":"query","title":"é"}]}}';
const short = '{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"query","title":"é"}]}}';

describe("an event stream", () => {
  const others =
    ': ping\n\nid: 1\nretry: 5\ndata:\n\nevent: message\ndata: {"method":"notifications/progress"}\n\n';

  it("loses only denied tools; other events pass byte for byte", () => {
    expect(streamed(`${others}event: message\nid: 7\ndata: ${list}\n\n${others}`)).toBe(
      `${others}event: message\nid: 7\ndata: ${short}\n\n${others}`,
    );
  });

  it.each([1, 2, 3, 7, 64])("in chunks of %i bytes", (size) => {
    for (const end of ["\n", "\r\n", "\r"]) {
      const stream = `${others}data: ${list}\n\n${others}`.replaceAll("\n", end);
      const events = streamed(stream, size)?.split(/\r\n\r\n|\n\n|\r\r/) ?? [];
      expect(events).toContain(`data: ${short}`);
      expect(events.join()).not.toContain("drop_table");
      expect(streamed(others.replaceAll("\n", end), size)).toBe(others.replaceAll("\n", end));
    }
  });

  it("data over several lines", () => {
    const pretty = JSON.stringify(JSON.parse(list), null, 1);
    const event = `${pretty
      .split("\n")
      .map((line) => `data: ${line}`)
      .join("\n")}\n\n`;
    const out = streamed(event) ?? "";
    expect(out).not.toContain("drop_table");
    const data = out
      .trim()
      .split("\n")
      .map((line) => line.replace(/^data: /, ""));
    expect(JSON.parse(data.join("\n"))).toEqual(JSON.parse(short));
  });

  it.each([
    ["without a blank after the colon", `data:${list}\n\n`],
    ["after a byte order mark", `\uFEFFdata: ${list}\n\n`],
    ["truncated before its blank line", `data: ${list}\n`],
    ["with another event name", `event: other\ndata: ${list}\n\n`],
    ["after blank lines", `\n\n\ndata: ${list}\n\n`],
    ["with the key escaped", `data: ${list.replace('"tools"', '"t\\u006fols"')}\n\n`],
    ["in a batch", `data: [${list}]\n\n`],
  ])("%s", (_, stream) => {
    expect(streamed(stream)).toContain("query");
    expect(streamed(stream)).not.toContain("drop_table");
  });

  it("passes one event before the next has arrived", () => {
    const filter = createToolsStreamFilter(mayShow, 1000);
    const first = filter.push(Buffer.from("data: 1\n\ndata: 2\n"));
    expect(first.ok && Buffer.from(first.body).toString()).toBe("data: 1\n\n");
  });

  it("passes events that are not JSON", () => {
    const endpoint = 'event: endpoint\ndata: /messages?of="tools"\n\n';
    expect(streamed(endpoint)).toBe(endpoint);
  });

  it("ends at a response that cannot be read, and stays ended", () => {
    expect(streamed('data: {"result":{"tools":[{"name":"drop_table"}\n\n')).toBeUndefined();
    const filter = createToolsStreamFilter(mayShow, 1000);
    filter.push(Buffer.from('data: {"tools"\n\n'));
    expect([filter.push(Buffer.from("data: 1\n\n")), filter.end()]).toEqual([{ ok: false }, { ok: false }]);
  });

  it("ends at an event longer than the limit", () => {
    expect(streamed(`data: ${"x".repeat(200)}`, 10, 100)).toBeUndefined();
    expect(streamed(`data: ${"x".repeat(80)}\n\n`.repeat(20), 10, 100)).toBeDefined();
  });
});

describe("how a response is filtered", () => {
  it.each([
    [200, { "content-type": "application/json" }, "json"],
    [200, { "content-type": "Application/JSON; charset=utf-8" }, "json"],
    [200, { "content-type": "text/event-stream" }, "event_stream"],
    [200, { "content-type": "application/json", "content-encoding": "identity" }, "json"],
    [200, { "content-type": "application/json", "content-encoding": "gzip" }, "unreadable"],
    [200, { "content-type": "text/event-stream", "content-encoding": "br" }, "unreadable"],
    [200, { "content-type": "text/plain" }, "unreadable"],
    [200, {}, "unreadable"],
    [200, { "content-length": "0" }, "none"],
    [202, {}, "none"],
    [204, {}, "none"],
    [405, { "content-type": "text/html" }, "none"],
    [500, { "content-type": "application/json" }, "none"],
  ])("%i %j: %s", (status, headers, format) => {
    expect(toolsAnswerFormat(status, headers)).toBe(format);
  });
});
