import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { sharing } from "../support/sharing.ts";

const root = join(import.meta.dirname, "../..");

/** What would reach into the next file of the same process. */
const lasting =
  /\bvi\.(?!waitFor|waitUntil|fn\b)\w+|\bprocess\.(?:env|on|once|umask|chdir|exit)\b|\bglobalThis\b|\bspawn|\bexecFile|\bstart(?:E2e|Stack|World)\(/;

it.each(sharing)("test files that share a process leave nothing behind in it: %s", (pattern) => {
  const files = globSync(pattern, { cwd: root });
  expect(files).not.toEqual([]);
  for (const file of files) expect(readFileSync(join(root, file), "utf8"), file).not.toMatch(lasting);
});
