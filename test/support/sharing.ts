import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dirname, "../..");

/** What would reach into the next file of the same process: clocks, environment, mocks, listeners of the process. */
const lasting =
  /\bvi\.(?!waitFor|waitUntil|fn\b)\w+|\bprocess\.(?:on|once|umask|chdir|exit)\b|\bprocess\.env[.[][^=;]+[^=!]=(?!=)|\bglobalThis\.\w+ =(?!=)/;

/**
 * Test files that share processes (Vitest's `isolate: false`): starting one and importing takes one to two seconds of processor time,
 * and code that has run for a while runs faster. All do that leave nothing behind but what they close.
 */
export const sharing = globSync("test/**/*.test.ts", { cwd: root })
  .filter((file) => !lasting.test(readFileSync(join(root, file), "utf8")))
  .sort();
