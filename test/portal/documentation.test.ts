import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { load } from "../config/load.ts";

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");
const page = read("docs/applications.md");
const flat = (code: string) =>
  code
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean)
    .join("\n");
const parts = new Map(
  [...read("examples/application.ts").matchAll(/\/\/ docs: (\w+)\n(.*?)\/\/ docs: end/gs)].map(
    ([, name = "", code = ""]) => [name, flat(code)],
  ),
);

describe("docs/applications.md", () => {
  it("has a valid routes file", () => {
    const [, routes = ""] = /```yaml\n.*?routes:\n(.*?)```/s.exec(page) ?? [];
    const { table, problems } = load(routes, { GITHUB_CLIENT_SECRET: "secret" });
    expect(problems).toEqual([]);
    expect(table.find("chat.example.com", "/")?.mcp).toEqual({ kind: "client" });
  });

  it("shows the example application's code", () => {
    const shown = [...page.matchAll(/<!-- snippet: (\w+) -->\n```ts\n(.*?)```/gs)];
    expect(shown.map(([, name]) => name)).toEqual([...parts.keys()]);
    for (const [, name = "", code = ""] of shown) expect(flat(code)).toBe(parts.get(name));
  });
});
