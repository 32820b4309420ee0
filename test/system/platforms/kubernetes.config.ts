import { defineConfig } from "vitest/config";
import base from "../../../vitest.config.ts";

/** `make kubernetes`: kube-apiserver takes minutes to build, so these tests are not among those of `make test`. */
export default defineConfig({
  test: {
    ...base.test,
    projects: undefined,
    pool: "forks",
    experimental: { viteModuleRunner: false },
    testTimeout: 300_000,
    hookTimeout: 300_000,
    expect: { poll: { timeout: 60_000 } },
    // The pods that they run have fixed ports.
    maxWorkers: 1,
    include: ["test/system/platforms/kubernetes*.run.ts"],
  },
});
