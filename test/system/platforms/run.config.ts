import { defineConfig } from "vitest/config";
import base, { common } from "../../../vitest.config.ts";

/** `*.run.ts`: tests on programs that take minutes to build, so `make test` does not run them; `make istio` and `make kubernetes` do. */
export default defineConfig({
  test: {
    ...base.test,
    ...common,
    projects: undefined,
    testTimeout: 300_000,
    // Pods have fixed ports.
    maxWorkers: 1,
    include: ["test/system/platforms/**/*.run.ts"],
  },
});
