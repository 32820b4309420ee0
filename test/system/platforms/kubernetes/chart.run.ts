import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { pingThroughEnvoy } from "../../../support/ping-through-envoy.ts";
import { gatewayBehavior } from "../behavior/gateway-behavior.ts";
import { type KubernetesApiServer, startKubernetesApiServer } from "./api-server.ts";
import { type ChartStack, startChartStack } from "./chart-stack.ts";
import { chart, missingForHelm } from "./helm.ts";

const missing = await missingForHelm();
if (missing !== undefined) throw new Error(`make kubernetes needs ${missing}`);
if (process.getuid?.() !== 0)
  throw new Error("make kubernetes runs the pods with chroot and mount: run it as root");

let api: KubernetesApiServer;
beforeAll(async () => {
  api = await startKubernetesApiServer({ controllers: true });
});
afterAll(() => api?.close());

describe.each(["sidecar", "deployment"] as const)("the chart in %s mode, run", (mode) => {
  let stack: ChartStack;
  gatewayBehavior(
    "as the pod of its Deployment",
    async (options) => {
      stack = await startChartStack(api, mode, options);
      return stack;
    },
    { more: () => ofTheRelease(() => stack) },
  );
});

function ofTheRelease(running: () => ChartStack): void {
  describe("the release", () => {
    it("passes `helm test`", async () => {
      expect(await running().helm.run(["test", "gateway"])).toMatch(/Phase:\s+Succeeded/);
    });

    it("applies a changed route without a new pod, and a changed log level with one", async () => {
      const { helm, values, pod, urls } = running();
      const token = await running().externalToken("bob", urls.open);
      const before = pod().name;
      const upgrade = (config: object) =>
        helm.run(["upgrade", "gateway", chart, "--wait", "--timeout", "2m", "--values", "-"], {
          ...values,
          config,
        });
      const config: Record<string, unknown> = Object(values.config);
      const routes: Record<string, unknown>[] = Object(config).routes;
      await upgrade({
        ...config,
        routes: routes.map((route) => (route.id === "open" ? { ...route, enabled: false } : route)),
      });
      const status = async () => (await pingThroughEnvoy(running(), urls.open, token)).status;
      await expect.poll(status).toBe(404);
      expect(pod().name).toBe(before);
      await upgrade(config);
      await expect.poll(status).toBe(200);
      expect(pod().name).toBe(before);
      await upgrade({ ...config, log: { level: "debug" } });
      expect(pod().name).not.toBe(before);
      await expect.poll(status).toBe(200);
    });
  });
}
