import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Writes a routes file of its own folder, private unless `mode` says otherwise, and returns its path. */
export function configFile(text: string, mode = 0o600): string {
  const file = join(mkdtempSync(join(tmpdir(), "config-")), "routes.yaml");
  writeFileSync(file, text, { mode });
  return file;
}
