import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { jsonSchemaOf } from "../../src/admin/route-settings.ts";
import { configSchema } from "../../src/config/config-schema.ts";
import { createFields } from "../../src/config/field-types.ts";
import { readNoFile } from "../../src/config/referenced-files.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";

const properties = z.record(z.string(), z.unknown()).optional();
const JsonObject = z.object({ properties, anyOf: z.array(z.object({ properties })).optional() });

const root = join(import.meta.dirname, "..", "..");
const text = readFileSync(join(root, "docs", "threat-model.md"), "utf8");
const configuration = readFileSync(join(root, "docs", "configuration.md"), "utf8");

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
const limits = tables.filter(({ width }) => width === 5).flatMap((table) => table.rows);

const fields = createFields({ folder: "/", env: {}, worldReadable: false, readFile: readNoFile });
/** `section.key` of every key in a section of the routes file. */
const keys = Object.entries(configSchema(fields).shape).flatMap(([section, schema]) => {
  const { properties, anyOf } = JsonObject.parse(jsonSchemaOf(schema));
  // A section may be left empty: an object, or null.
  return Object.keys(properties ?? anyOf?.[0]?.properties ?? {}).map((key) => `${section}.${key}`);
});

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

  it.each(limits.map((cells) => [cells[2] ?? "", cells[3] ?? ""]))(
    "%s is a key, %s a metric",
    async (key, metric) => {
      const name = key.replaceAll("`", "");
      // A route's keys have no section.
      if (name.includes(".")) expect(keys).toContain(name);
      expect(configuration).toMatch(new RegExp(`\\b${name.split(".").at(-1)}\\b`));
      expect(await createMetrics().registry.metrics()).toContain(
        `envoy_mcp_auth_${/^`(\w+)/.exec(metric)?.[1]} `,
      );
    },
  );

  it("has a row for every key of `limits`", () => {
    const named = limits.map((cells) => cells[2]?.replaceAll("`", ""));
    expect(keys.filter((key) => key.startsWith("limits.") && !named.includes(key))).toEqual([]);
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
