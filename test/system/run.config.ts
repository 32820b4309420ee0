import { defineConfig } from "vitest/config";
import base, { common } from "../../vitest.config.ts";

/** `*.run.ts`: tests that take too long for `make test`, or need programs that take minutes to build: `make fleet`, `make aggregation`, `make workers`, `make istio`, `make kubernetes`. */
export default defineConfig({
  test: {
    ...base.test,
    ...common,
    projects: undefined,
    testTimeout: 300_000,
    // Pods have fixed ports.
    maxWorkers: 1,
    include: ["test/system/**/*.run.ts"],
  },
});
