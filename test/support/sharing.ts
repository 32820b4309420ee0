import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dirname, "../..");

/** What would affect the next file in the same process: clocks, environment, mocks, process listeners. */
const lasting =
  /\bvi\.(?!waitFor|waitUntil|fn\b)\w+|\bprocess\.(?:on|once|umask|chdir|exit)\b|\bprocess\.env[.[][^=;]+[^=!]=(?!=)|\bglobalThis\.\w+ =(?!=)/;

/**
 * Test files that share processes (Vitest's `isolate: false`): starting a process and importing takes one to two seconds of CPU time,
 * and warm code runs faster. These are all files that leave nothing behind.
 */
export const sharing = globSync("test/**/*.test.ts", { cwd: root })
  .filter((file) => !lasting.test(readFileSync(join(root, file), "utf8")))
  .sort();
