import { defineConfig } from "vitest/config";
import base from "../../../vitest.config.ts";

/** `make istio`: pilot-discovery and kube-apiserver take minutes to build, so these tests are not among those of `make test`. */
export default defineConfig({
  test: {
    ...base.test,
    projects: undefined,
    pool: "forks",
    experimental: { viteModuleRunner: false },
    testTimeout: 180_000,
    hookTimeout: 300_000,
    expect: { poll: { timeout: 60_000 } },
    include: ["test/system/platforms/istio.run.ts"],
  },
});
