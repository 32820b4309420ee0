import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parse as parseYaml } from "yaml";

const root = join(import.meta.dirname, "../..");
const read = (file: string) => readFileSync(join(root, file), "utf8");
const text = read("docs/clients.md");
const url = "https://notes.example.com";

/** By client, each block as parsed: exactly what the client's documentation names. */
const documented: Readonly<Record<string, readonly (readonly [language: string, content: unknown])[]>> = {
  "Claude Code": [
    ["sh", [["claude", "mcp", "add", "--transport", "http", "notes", url]]],
    ["json", { mcpServers: { notes: { type: "http", url } } }],
  ],
  Codex: [
    [
      "sh",
      [
        ["codex", "mcp", "add", "notes", "--url", url],
        ["codex", "mcp", "login", "notes"],
      ],
    ],
    ["toml", { mcp_servers: { notes: { url } } }],
  ],
  "VS Code": [
    ["json", { servers: { notes: { type: "http", url } } }],
    ["sh", [["code", "--add-mcp", JSON.stringify({ name: "notes", type: "http", url })]]],
  ],
  Cursor: [["json", { mcpServers: { notes: { url } } }]],
  Windsurf: [["json", { mcpServers: { notes: { serverUrl: url } } }]],
  Zed: [["json", { context_servers: { notes: { url } } }]],
  Cline: [["json", { mcpServers: { notes: { type: "streamableHttp", url } } }]],
  Goose: [
    [
      "yaml",
      {
        extensions: {
          notes: { enabled: true, type: "streamable_http", name: "notes", uri: url, timeout: 300 },
        },
      },
    ],
  ],
  "Gemini CLI": [
    ["sh", [["gemini", "mcp", "add", "--transport", "http", "notes", url]]],
    ["json", { mcpServers: { notes: { httpUrl: url } } }],
  ],
  opencode: [
    [
      "sh",
      [
        ["opencode", "mcp", "add", "notes", "--url", url],
        ["opencode", "mcp", "auth", "notes"],
      ],
    ],
    ["json", { mcp: { notes: { type: "remote", url } } }],
  ],
  LibreChat: [["yaml", { mcpServers: { notes: { type: "streamable-http", url, requiresOAuth: true } } }]],
  "LM Studio": [["json", { mcpServers: { notes: { url } } }]],
  "mcp-remote": [["json", { mcpServers: { notes: { command: "npx", args: ["-y", "mcp-remote", url] } } }]],
  "MCP Inspector": [["sh", [["npx", "@modelcontextprotocol/inspector"]]]],
};
/** These are configured in forms, not files. */
const inForms = [
  "Claude.ai and Claude Desktop",
  "ChatGPT",
  "Copilot Studio",
  "Open WebUI",
  "n8n",
  "Dify",
] as const;

const parsers: Readonly<Record<string, (block: string) => unknown>> = {
  json: JSON.parse,
  yaml: (block) => parseYaml(block),
  toml: (block) =>
    JSON.parse(
      execFileSync(
        "python3",
        ["-c", "import json,sys,tomllib; print(json.dumps(tomllib.loads(sys.stdin.read())))"],
        { input: block, encoding: "utf8" },
      ),
    ),
  sh: wordsOf,
};

/** Each command as a shell splits it; none is run. */
function wordsOf(block: string): string[][] {
  const lines = block.trimEnd().split("\n");
  return lines.map((line) =>
    execFileSync("bash", ["--norc", "-uc", `set -f; printf '%s\\0' ${line}`], { encoding: "utf8", env: {} })
      .split("\0")
      .slice(0, -1),
  );
}

const sections = new Map(
  text
    .split(/^## /m)
    .slice(1)
    .map((section) => [section.slice(0, section.indexOf("\n")), section]),
);

describe("docs/clients.md", () => {
  it.each(Object.entries(documented))(
    "%s: each block parses to what the client documents",
    (client, blocks) => {
      const section = sections.get(client) ?? "";
      const found = [...section.matchAll(/^```(\w+)\n(.*?)^```$/gms)].map(([, language = "", block = ""]) => [
        language,
        parsers[language]?.(block),
      ]);
      expect(found).toEqual(blocks);
    },
  );

  it.each([...Object.keys(documented), ...inForms])("%s: has the URL to enter, and a source", (client) => {
    const section = sections.get(client) ?? "";
    expect(section).toContain(url);
    expect(section).toMatch(/\[documentation\]\(https:\/\/[^)]+\)/);
  });

  it("has no unchecked block", () => {
    const blocks = Object.values(documented).flat().length;
    expect([...text.matchAll(/^```\w*$/gm)].length).toBe(2 * blocks);
  });

  it("is linked from README and the list of documents; their first route has only its URL", () => {
    expect(read("README.md")).toContain("(docs/clients.md)");
    expect(read("docs/README.md")).toContain("(clients.md)");
    for (const [file, start] of [
      ["README.md", /```yaml\n(.*?)```/s],
      ["docs/quickstart.md", /<<'YAML'\n(.*?)\nYAML/s],
    ] as const) {
      const { routes } = parseYaml(start.exec(read(file))?.[1] ?? "");
      expect([file, routes[0].mcp]).toEqual([file, { server: {} }]);
      expect(Object.keys(routes[0]).filter((key) => !["id", "from", "to", "mcp"].includes(key))).toEqual([]);
    }
  });
});
