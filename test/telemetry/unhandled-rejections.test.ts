import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, it } from "vitest";

it("a rejection that nothing handles is logged and counted, and the process continues", async () => {
  const program = `
    import { createLogger } from "./src/telemetry/logger.ts";
    import { createMetrics } from "./src/telemetry/metrics.ts";
    import { reportUnhandledRejections } from "./src/telemetry/unhandled-rejections.ts";
    const metrics = createMetrics();
    const logger = createLogger({ level: "info", destination: process.stdout });
    reportUnhandledRejections({ logger, metrics });
    Promise.reject(new Error("nobody waits"));
    setImmediate(async () => console.log(await metrics.registry.metrics()));`;
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", program]);
  expect(stdout).toContain("nobody waits");
  expect(stdout).toMatch(/errors_total\{component="process",code="unhandled_rejection"\} 1/);
});
