import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

const root = join(import.meta.dirname, "..", "..");
const text = readFileSync(join(root, "docs", "threat-model.md"), "utf8");
const limitsPage = readFileSync(join(root, "docs", "limits.md"), "utf8");

/** Cells of all rows in tables whose last column is the test. */
const tables = [...text.matchAll(/^\|(.+)\| test \|\n\|[-|]+\|\n((?:\|.*\|\n)+)/gm)].map(
  ([, head = "", body = ""]) => ({
    width: head.split("|").length + 1,
    rows: body
      .trimEnd()
      .split("\n")
      .map((line) => line.slice(1, -1).split("|"))
      .map((cells) => cells.map((cell) => cell.trim())),
  }),
);
const rows = tables.flatMap((table) => table.rows);
const limits = tables.filter(({ width }) => width === 2).flatMap((table) => table.rows);

/**
 * A test's name may be in `test("…"`, `describe("…"`, `.each(…)("…"`, or first in a row of `.each`.
 * @param source of the test, with titles that begin with their subject
 */
function isTitle(source: string, name: string): boolean {
  const literals = [JSON.stringify(name), `'${name}'`, `\`${name}\``];
  return literals.some((literal) => {
    for (let at = source.indexOf(literal); at >= 0; at = source.indexOf(literal, at + 1)) {
      const before = source.slice(0, at).trimEnd();
      if (/\b(?:test|it|describe)(?:\.concurrent)?\($/.test(before) || /\)\($/.test(before)) return true;
      if (before.endsWith("[") && /\.each\b/.test(source)) return true;
    }
    return false;
  });
}

describe("docs/threat-model.md", () => {
  it("has its rows, each with the right number of cells", () => {
    expect(rows.length).toBeGreaterThan(85);
    expect(limits.length).toBeGreaterThan(15);
    for (const table of tables)
      for (const cells of table.rows) expect([cells, cells.length]).toEqual([cells, table.width]);
  });

  it.each(rows.map((cells) => [cells[0] ?? "", cells.at(-1) ?? ""]))(
    "%s: the test exists",
    (_attack, cell) => {
      const [, file = "", name = ""] = /^`(test\/[^`]+(?:\.test|-behavior)\.ts)`: (.+)$/.exec(cell) ?? [];
      const source = readFileSync(join(root, file), "utf8").replace(/(["'`])(?:F\d+\.\d+,? )+/g, "$1");
      expect(isTitle(source, name), cell).toBe(true);
    },
  );

  it("names a test for every limit of docs/limits.md", () => {
    const documented = [...limitsPage.matchAll(/^\| (.+?) \|(?: .*?\|){4}$/gm)].map(([, limit]) => limit);
    const names = documented.filter((limit) => limit !== "limit");
    expect(limits.map(([limit]) => limit).toSorted()).toEqual(names.toSorted());
    expect(new Set(names).size).toBe(names.length);
  });

  it.each([
    ...["A sibling host", "A shared host", "Two browsers", "Two tabs of one browser"],
    ...["A malicious upstream and a user who cooperate", "A second sign-in provider, or a trusted issuer"],
    ...["Another workload in the cluster", "Access to the database"],
    ...["Many slow connections", "An upstream that responds slowly, or never ends"],
  ])("has a section for %s, with rows", (edge) => {
    const section = text.split("\n## ").find((one) => one.startsWith(`${edge}\n`)) ?? "";
    expect(section.match(/^\|.*\| `test\/.*\|$/gm)?.length).toBeGreaterThan(3);
  });

  it.each([
    ...["confused deputy", "mix-up", "code injection", "`state`", "redirect uri", "replayed on another"],
    ...["`alg` confusion", "`kid`", "port, trailing dot", "ipv6", "encoded slashes", "absolute-form"],
    ...["`x-forwarded-*`", "`x-envoy-*`", "`x-original-path`", "smuggled to the upstream", "ssrf"],
    ...["open redirect", "clickjacking", "csrf", "session fixation", "log injection", "clients registered"],
    ...["consents under way", "cache of metadata documents", "external tokens", "by time", "core files"],
    ...["reads its memory", "rolling a row back", "ciphertexts between rows", "our grpc port", "unix socket"],
  ])("mentions %s", (subject) => {
    expect(text.toLowerCase()).toContain(subject);
  });
});
