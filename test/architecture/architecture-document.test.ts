import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { layers } from "./layers.ts";

const root = join(import.meta.dirname, "../..");
const page = readFileSync(join(root, "docs/architecture.md"), "utf8");

describe("docs/architecture.md", () => {
  it("lists the modules of src/ in the order of their layers", () => {
    const present = readdirSync(join(root, "src"));
    const rows = [...page.matchAll(/^\| (\d+) \| `([^`]+)` \| .+ \|$/gm)].map(([, layer, name = ""]) => ({
      layer: Number(layer),
      name,
    }));
    const inLayers = layers.flatMap((names, index) =>
      names
        .filter((name) => present.includes(name))
        .toSorted()
        .map((name) => ({ layer: index + 1, name })),
    );
    expect(rows).toEqual(inLayers);
    expect(rows.map(({ name }) => name).toSorted()).toEqual(present.toSorted());
  });

  it("lists the tables that the store has", () => {
    const [, section = ""] = page.split("\n## Tables\n");
    const documented = [...section.matchAll(/^\| `([a-z_]+)` \|/gm)].map(([, name]) => name ?? "");
    const [, types = ""] = readFileSync(join(root, "src/store/tables.ts"), "utf8").split(
      "export interface Tables {",
    );
    const tables = [...types.matchAll(/^ {2}([a-z_]+): /gm)].map(([, name]) => name ?? "");
    expect(documented.toSorted()).toEqual(tables.toSorted());
  });

  it("names files and folders that exist", () => {
    const paths = [
      ...page.matchAll(/`((?:src|test|migrations|proto|envoy|deploy|dev|examples|bench|docs)\/[\w./-]*)`/g),
    ].map(([, path = ""]) => path);
    expect(paths.length).toBeGreaterThan(30);
    expect(paths.filter((path) => !existsSync(join(root, path)))).toEqual([]);
  });
});
