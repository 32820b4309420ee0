import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { createMetrics } from "../../src/telemetry/metrics.ts";

const root = join(import.meta.dirname, "..", "..");
const text = readFileSync(join(root, "docs", "threat-model.md"), "utf8");
const configuration = readFileSync(join(root, "docs", "configuration.md"), "utf8");
/** Rows of tables with a header of this last column, cell by cell. */
const rows = text
  .split("\n")
  .filter(
    (line) =>
      line.startsWith("| ") && !/^\| (attack|limit|asset|who|C, |W, |P, |T, |U, |N, |D, |X, ) ?/.test(line),
  )
  .map((line) => line.slice(2, -2).split(" | "))
  .filter((cells) => cells.length >= 4);
const limits = rows.filter((cells) => cells.length === 5);

describe("docs/threat-model.md", () => {
  it("has its rows", () => {
    expect(rows.length).toBeGreaterThan(60);
    expect(limits.length).toBeGreaterThan(10);
  });

  it.each(rows.map((cells) => [cells[0] ?? "", cells.at(-1) ?? ""]))(
    "%s: the test exists",
    (_attack, cell) => {
      const [, file = "", name = ""] = /^`([^`]+)`: (.+)$/.exec(cell) ?? [];
      expect(existsSync(join(root, file)), `${file} of ${cell}`).toBe(true);
      expect(readFileSync(join(root, file), "utf8")).toContain(name);
    },
  );

  it.each(limits.map((cells) => [cells[2] ?? "", cells[3] ?? ""]))(
    "%s is a key, %s a metric",
    async (key, metric) => {
      for (const part of key.replaceAll("`", "").split(".").filter(Boolean))
        expect(configuration).toContain(part);
      const [, name] = /^`(\w+)/.exec(metric) ?? [];
      if (name && name !== "ext_authz")
        expect(await createMetrics().registry.metrics()).toContain(`envoy_mcp_auth_${name} `);
    },
  );
});
