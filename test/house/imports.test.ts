import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { describe, expect, it } from "vitest";

/** The floors of the house: a room may import from lower floors, and from its own only along a drawn arrow. */
const floors: readonly (readonly string[])[] = [
  ["bounded-cache.ts"],
  ["config", "store", "telemetry"],
  ["sign-in", "pages", "external-token", "upstream-token", "upstream-oauth", "policy"],
  ["check", "challenge", "authorization-server", "portal", "admin"],
  ["main.ts", "cli.ts"],
];
const arrows = new Set(["upstream-token -> upstream-oauth", "sign-in -> pages", "cli.ts -> main.ts"]);
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

const roomOf = (path: string) => relative(src, path).split("/")[0] ?? "";
const floorOf = (room: string) => floors.findIndex((rooms) => rooms.includes(room));

/** Why `file` (absolute) may not import `specifier`; undefined when it may. */
function objection(file: string, specifier: string): string | undefined {
  if (!specifier.startsWith(".")) return undefined;
  const target = resolve(dirname(file), specifier);
  if (relative(src, target).startsWith("..")) {
    return target.endsWith("package.json") || relative(src, target).startsWith("../migrations")
      ? undefined
      : `${relative(src, file)} reaches out of src/: ${specifier}`;
  }
  const [from, to] = [roomOf(file), roomOf(target)];
  if (from === to) return undefined;
  if (floorOf(to) < floorOf(from) || arrows.has(`${from} -> ${to}`)) return undefined;
  return `${relative(src, file)} imports ${relative(src, target)}: ${from} may not know ${to}`;
}

describe("the house", () => {
  const files = sources(src);

  it("has no room that the design does not draw", () => {
    expect(readdirSync(src).filter((name) => floorOf(name) < 0)).toEqual([]);
  });

  it("imports downwards only, and sideways only where the design draws an arrow", () => {
    expect(files.length).toBeGreaterThan(20);
    const objections = files.flatMap((file) =>
      imports(readFileSync(file, "utf8")).map((specifier) => objection(file, specifier)),
    );
    expect(objections.filter(Boolean)).toEqual([]);
  });

  it("would notice a room that looks upwards or sideways", () => {
    expect(objection(join(src, "store/store.ts"), "../check/check.ts")).toContain("store may not know check");
    expect(objection(join(src, "policy/x.ts"), "../pages/x.ts")).toContain("policy may not know pages");
    expect(
      imports('import type { A } from "./a.ts";\nawait import("./b.ts");\nexport * from "./c.ts"'),
    ).toEqual(["./a.ts", "./b.ts", "./c.ts"]);
  });

  it("has caches that have room for all of their entries at once only where every check reads them", () => {
    const whole = files.filter((file) =>
      /new LRUCache\b[\s\S]{0,200}?\bmax:/.test(readFileSync(file, "utf8")),
    );
    expect(whole.map((file) => relative(src, file)).toSorted()).toEqual([
      // 32 views of a route.
      "config/endpoint.ts",
      "external-token/session-tokens.ts",
      "sign-in/browser-sessions.ts",
      "store/people.ts",
      "upstream-token/connection-cache.ts",
      "upstream-token/uses.ts",
    ]);
  });

  it("F4.8 calls out only through safe-fetch.ts", () => {
    // biome knows scopes: a `fetch` from deps is fine, the global one is not (biome.json).
    const rules = ["noRestrictedGlobals", "noRestrictedImports"].map((rule) => `--only=style/${rule}`);
    const linted = spawnSync("biome", ["lint", ...rules, src], { encoding: "utf8" });
    expect(linted.stdout + linted.stderr).toMatch(/Checked [1-9]\d+ files/);
    expect(linted.status, linted.stdout + linted.stderr).toBe(0);
    const byAnotherName =
      /(?<!typeof )globalThis\.fetch|\b(?:request|get)\b[^;"]*\} from "node:https?"|https?\.(?:request|get)\s*\(/;
    const offenders = files.filter(
      (file) =>
        !file.endsWith("upstream-oauth/safe-fetch.ts") && byAnotherName.test(readFileSync(file, "utf8")),
    );
    expect(offenders.map((file) => relative(src, file))).toEqual([]);
  });
});
