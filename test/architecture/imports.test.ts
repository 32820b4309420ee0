import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { layers } from "./layers.ts";

const src = resolve(import.meta.dirname, "../../src");

function sources(folder: string): string[] {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    return statSync(path).isDirectory() ? sources(path) : path.endsWith(".ts") ? [path] : [];
  });
}

function imports(text: string): string[] {
  const forms =
    /(?:^|\n)\s*(?:import|export)\b[^;"']*?from\s*["']([^"']+)["']|\bimport\s*\(?\s*["']([^"']+)["']/g;
  return [...text.matchAll(forms)].map((match) => match[1] ?? match[2] ?? "");
}

const moduleOf = (path: string) => relative(src, path).split("/")[0] ?? "";
const layerOf = (module: string) => layers.findIndex((modules) => modules.includes(module));

/** Why `file` (absolute) may not import `specifier`; undefined if it may. */
function objection(file: string, specifier: string): string | undefined {
  if (!specifier.startsWith(".")) return undefined;
  const target = resolve(dirname(file), specifier);
  if (relative(src, target).startsWith("..")) {
    return target.endsWith("package.json") || relative(src, target).startsWith("../migrations")
      ? undefined
      : `${relative(src, file)} reaches out of src/: ${specifier}`;
  }
  const [from, to] = [moduleOf(file), moduleOf(target)];
  if (from === to || layerOf(to) < layerOf(from)) return undefined;
  return `${relative(src, file)} imports ${relative(src, target)}: ${from} is not above ${to}`;
}

/** The first import cycle, as a list of files; `edges` maps a file to those it imports, for types or values. */
function circle(edges: ReadonlyMap<string, readonly string[]>): readonly string[] | undefined {
  const done = new Set<string>();
  const search = (file: string, way: readonly string[]): readonly string[] | undefined => {
    const at = way.indexOf(file);
    if (at >= 0) return [...way.slice(at), file];
    if (done.has(file)) return undefined;
    for (const next of edges.get(file) ?? []) {
      const found = search(next, [...way, file]);
      if (found) return found;
    }
    done.add(file);
    return undefined;
  };
  for (const file of edges.keys()) {
    const found = search(file, []);
    if (found) return found;
  }
  return undefined;
}

describe("the layout of src/", () => {
  const files = sources(src);

  it("has no module that docs/architecture.md does not show", () => {
    expect(readdirSync(src).filter((name) => layerOf(name) < 0)).toEqual([]);
  });

  it("imports from lower layers only", () => {
    expect(files.length).toBeGreaterThan(20);
    const objections = files.flatMap((file) =>
      imports(readFileSync(file, "utf8")).map((specifier) => objection(file, specifier)),
    );
    expect(objections.filter(Boolean)).toEqual([]);
  });

  it("has no import cycle, not even of types", () => {
    const edges = new Map(
      files.map((file) => [
        relative(src, file),
        imports(readFileSync(file, "utf8"))
          .filter((specifier) => specifier.startsWith("."))
          .map((specifier) => relative(src, resolve(dirname(file), specifier))),
      ]),
    );
    expect(circle(edges)).toBeUndefined();
  });

  it("detects an import from the same or a higher layer, and a cycle", () => {
    expect(objection(join(src, "store/store.ts"), "../ext-authz/check.ts")).toContain(
      "store is not above ext-authz",
    );
    expect(objection(join(src, "policy/x.ts"), "../pages/x.ts")).toContain("policy is not above pages");
    expect(
      imports('import type { A } from "./a.ts";\nawait import("./b.ts");\nexport * from "./c.ts"'),
    ).toEqual(["./a.ts", "./b.ts", "./c.ts"]);
    expect(
      circle(
        new Map([
          ["a", ["b", "c"]],
          ["b", []],
          ["c", ["d"]],
          ["d", ["c"]],
        ]),
      ),
    ).toEqual(["c", "d", "c"]);
  });

  it("preallocates caches only where every check reads them", () => {
    const whole = files.filter((file) =>
      /new LRUCache\b[\s\S]{0,200}?\bmax:/.test(readFileSync(file, "utf8")),
    );
    expect(whole.map((file) => relative(src, file)).toSorted()).toEqual([
      // 32 views of a route.
      "config/paths.ts",
      "store/notified-cache.ts",
      "upstream-tokens/connection-cache.ts",
      "upstream-tokens/usage.ts",
    ]);
  });

  it("sends requests only through safe-fetch.ts", () => {
    // biome knows scopes: a `fetch` from deps is fine, the global one is not (biome.json).
    const rules = ["noRestrictedGlobals", "noRestrictedImports"].map((rule) => `--only=style/${rule}`);
    const linted = spawnSync("biome", ["lint", ...rules, src], { encoding: "utf8" });
    expect(linted.stdout + linted.stderr).toMatch(/Checked [1-9]\d+ files/);
    expect(linted.status, linted.stdout + linted.stderr).toBe(0);
    const byAnotherName =
      /(?<!typeof )globalThis\.fetch|\b(?:request|get)\b[^;"]*\} from "node:https?"|https?\.(?:request|get)\s*\(/;
    const offenders = files.filter(
      (file) => !file.endsWith("egress/safe-fetch.ts") && byAnotherName.test(readFileSync(file, "utf8")),
    );
    expect(offenders.map((file) => relative(src, file))).toEqual([]);
  });
});
