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

const docs = join(import.meta.dirname, "..", "..", "docs");
const configuration = readFileSync(join(docs, "configuration.md"), "utf8");
/** Limit, default, key, answer, metric. */
const limits = readFileSync(join(docs, "limits.md"), "utf8")
  .split("\n")
  .filter((line) => line.startsWith("| ") && !line.startsWith("| limit |"))
  .map((line) =>
    line
      .slice(1, -1)
      .split("|")
      .map((cell) => cell.trim()),
  );

const fields = createFields({ folder: "/", env: {}, worldReadable: false, readFile: readNoFile });
/** `section.key` of every key in a section of the routes file. */
const keys = Object.entries(configSchema(fields).shape).flatMap(([section, schema]) => {
  const { properties, anyOf } = JsonObject.parse(jsonSchemaOf(schema));
  // A section may be left empty: an object, or null.
  return Object.keys(properties ?? anyOf?.[0]?.properties ?? {}).map((key) => `${section}.${key}`);
});

describe("docs/limits.md", () => {
  it("has its rows, each with five cells, and says what a caller sees", () => {
    expect(limits.length).toBeGreaterThan(50);
    for (const cells of limits) expect([cells, cells.length, cells[3] !== ""]).toEqual([cells, 5, true]);
  });

  it.each(limits.map((cells) => [cells[0] ?? "", cells[2] ?? "", cells[4] ?? ""]))(
    "%s: %s is a key, %s a metric",
    async (_limit, key, metric) => {
      const name = key.replaceAll("`", "");
      // A route's keys have no section.
      if (name.includes(".")) expect(keys).toContain(name);
      expect(configuration).toMatch(new RegExp(`\\b${name.split(".").at(-1)}\\b`));
      if (metric.startsWith("Envoy's `")) return;
      expect(await createMetrics().registry.metrics()).toContain(
        `envoy_mcp_auth_${/^`(\w+)/.exec(metric)?.[1]} `,
      );
    },
  );

  it("has a row for every key of `limits`", () => {
    const named = limits.map((cells) => cells[2]?.replaceAll("`", ""));
    expect(keys.filter((key) => key.startsWith("limits.") && !named.includes(key))).toEqual([]);
  });
});
