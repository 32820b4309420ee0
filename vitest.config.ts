import { fileURLToPath } from "node:url";
import { configDefaults, defineConfig } from "vitest/config";
import { closingLine } from "./test/support/closing-line.ts";
import { LongestFirst } from "./test/support/longest-first.ts";
import { sharing } from "./test/support/sharing.ts";

process.env.NODE_COMPILE_CACHE ??= fileURLToPath(new URL("node_modules/.cache/compiled", import.meta.url));

/** Run by targets of their own (`make fleet`, `make aggregation`), which set LONG: `make test` is to stay short. */
const long =
  process.env.LONG === undefined
    ? ["test/system/fleet/fleet.test.ts", "test/aggregation/clients-and-members.test.ts"]
    : [];

/** Of every run. */
export const common = {
  pool: "forks",
  // Node itself strips the types, as in development, and keeps what it compiled for the next file's process.
  experimental: { viteModuleRunner: false },
  // For a machine that stalls, and a hang all the same: no test waits it out.
  testTimeout: 180_000,
  hookTimeout: 300_000,
  // A machine under load may take its time; where a bound is the behaviour, the test names it.
  expect: { poll: { timeout: 60_000 } },
} as const;

export default defineConfig({
  test: {
    // Once for both projects.
    globalSetup: ["./test/support/global-setup.ts"],
    // One more than the cores it is meant for: a test file waits about half of its time, for processes, deadlines and pages.
    maxWorkers: 3,
    sequence: { sequencer: LongestFirst },
    reporters: ["default", closingLine()],
    projects: [
      {
        test: {
          ...common,
          name: "apart",
          include: ["test/**/*.test.ts"],
          exclude: [...configDefaults.exclude, ...sharing, ...long],
        },
      },
      {
        test: {
          ...common,
          name: "sharing",
          include: sharing.filter((file) => !long.includes(file)),
          isolate: false,
        },
      },
    ],
  },
});
