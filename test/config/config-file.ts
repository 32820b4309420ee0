import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Writes a routes file into a folder of its own, which is removed with the run's temporary files; private unless `mode` says otherwise. @returns its path */
export function configFile(text: string, mode = 0o600): string {
  const file = join(mkdtempSync(join(tmpdir(), "config-")), "routes.yaml");
  writeFileSync(file, text, { mode });
  return file;
}
