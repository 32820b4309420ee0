import { existsSync, readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { expect, it } from "vitest";

const src = resolve(import.meta.dirname, "../../src");
/** Static imports and re-exports that are not types only. */
const staticImport = /^(?:import|export)\s+(?!type\b)(?:[^;"']*?\bfrom\s+)?["']([^"']+)["']/gm;

/** The packages that the file loads when it is loaded, and those that its imports load. */
function packagesOf(file: string, seen = new Set<string>(), packages = new Set<string>()): Set<string> {
  if (seen.has(file) || !existsSync(file)) return packages;
  seen.add(file);
  for (const [, specifier = ""] of readFileSync(file, "utf8").matchAll(staticImport))
    if (specifier.startsWith(".")) packagesOf(resolve(dirname(file), specifier), seen, packages);
    else packages.add(specifier);
  return packages;
}

it("serve loads aggregation, the embedded database, exporters of traces and key services only when they are needed", () => {
  const loaded = [...packagesOf(resolve(src, "serve.ts"))];
  expect(loaded).toContain("koa");
  const onDemand =
    /^(@modelcontextprotocol|@electric-sql|@aws-sdk|google-auth-library|@opentelemetry\/(?!api))/;
  expect(loaded.filter((name) => onDemand.test(name))).toEqual([]);
});
