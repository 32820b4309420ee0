import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Config } from "../../src/config/config.ts";
import { loadConfig } from "../../src/config/load-config.ts";

/** Loads a routes file through the real loader. Throws the loader's problems. */
export function loadPolicies(yaml: string): Config {
  const folder = mkdtempSync(join(tmpdir(), "policy-"));
  try {
    const file = join(folder, "routes.yaml");
    writeFileSync(file, yaml, { mode: 0o600 });
    const loaded = loadConfig(file, {});
    if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems, null, 2));
    return loaded.config;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
