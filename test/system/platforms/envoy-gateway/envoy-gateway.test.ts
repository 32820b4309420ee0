import { afterAll, describe, expect, it } from "vitest";
import type { StackConfig } from "../../../../dev/demo/stack-config.ts";
import { goTool } from "../../../../dev/go-tools.ts";
import { type E2eOptions, startE2e } from "../../../support/e2e.ts";
import { type TlsFront, tlsFront } from "../../../support/tls-front.ts";
import { aggregatedBehavior, withAggregatedRoute } from "../behavior/aggregated-behavior.ts";
import { gatewayBehavior } from "../behavior/gateway-behavior.ts";
import { envoyGatewayBehavior } from "./sample-behavior.ts";
import { envoyStatistic, startEnvoyGateway } from "./start-envoy-gateway.ts";

/*
 * A real Envoy Gateway, without Kubernetes, with the sample manifest. Its ports are fixed, so that one runs at a time. The server of the
 * open route is behind TLS, by name.
 */
/** The sidecar has it already, Envoy Gateway does not. */
const routeWithoutObjects = { id: "ahead", from: "https://ahead.test", to: "https://localhost/mcp", mcp: {} };

if ((await goTool("envoy-gateway")) === undefined) {
  process.stderr.write(
    "skipped: Envoy Gateway is not installed; `make envoy-gateway` installs and tests it\n",
  );
  describe("Envoy Gateway", () => it.skipIf(true)("is not installed (make envoy-gateway)", () => {}));
} else {
  let front: TlsFront;
  let openServer = 0;
  afterAll(() => front?.close());
  const start = async (options: E2eOptions) => {
    front = await tlsFront(() => openServer);
    const behindTls = (config: StackConfig): StackConfig => ({
      ...config,
      routes: config.routes.map((route) => {
        if (route.id !== "open") return route;
        const { port, pathname } = new URL(String(route.to));
        openServer = Number(port);
        return { ...route, to: `https://localhost:${front.port}${pathname}` };
      }),
    });
    const stack = await startE2e({
      ...options,
      names: [...(options.names ?? []), "ahead.test"],
      config(defaults) {
        const config = behindTls(options.config?.(defaults) ?? defaults);
        return { ...config, routes: [...config.routes, routeWithoutObjects] };
      },
      async gateway(settings) {
        await front.show(settings.ca);
        const routes = settings.config.routes.filter(({ id }) => id !== routeWithoutObjects.id);
        return startEnvoyGateway({ ...settings, config: { ...settings.config, routes } });
      },
    });
    const healthy = () => envoyStatistic(stack.envoy, "cluster./mcp/open/extproc/0.membership_healthy");
    return {
      ...stack,
      async restartSidecar() {
        await stack.restartSidecar();
        // Envoy's health checks notice within a second.
        await expect.poll(healthy).toBe(1);
      },
    };
  };
  gatewayBehavior("Envoy Gateway with deploy/kubernetes/envoy-gateway.yaml", start, {
    config: withAggregatedRoute,
    more(running) {
      aggregatedBehavior(running);
      envoyGatewayBehavior(running, () => front);
    },
  });
}
