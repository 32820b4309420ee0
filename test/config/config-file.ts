import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Writes a routes file to a new temporary folder; readable by the owner only unless `mode` is set. @returns its path */
export function configFile(text: string, mode = 0o600): string {
  const file = join(mkdtempSync(join(tmpdir(), "config-")), "routes.yaml");
  writeFileSync(file, text, { mode });
  return file;
}
