import type { GatewaySettings } from "../../../../dev/demo/stack.ts";
import { type E2e, type E2eOptions, startE2e } from "../../../support/e2e.ts";
import { aggregatedBehavior, withAggregatedRoute } from "../behavior/aggregated-behavior.ts";
import { gatewayBehavior } from "../behavior/gateway-behavior.ts";
import { type IstioControlPlane, missingForIstio, startIstio } from "./control-plane.ts";
import { istioGateway } from "./gateway.ts";
import { clusterOf, istioManifests, istioSample } from "./manifests.ts";
import { istioBehavior, type RunningIstio } from "./sample-behavior.ts";
import { type Vendor, vendor } from "./vendor.ts";

const missing = await missingForIstio();
if (missing !== undefined) throw new Error(`make istio needs ${missing}`);

/** What the tests of Istio alone look at. */
let istio: RunningIstio;

gatewayBehavior("Istio's ingress gateway", start, {
  config: withAggregatedRoute,
  more(running) {
    aggregatedBehavior(running);
    istioBehavior(running, () => istio);
  },
});

/** The stack behind Istio: one route's server is on this machine, the other's is outside and has TLS. */
async function start(options: E2eOptions): Promise<E2e> {
  const outside = await vendor("open.vendor.test");
  const closers = [() => outside.close()];
  const close = async () => {
    for (const one of closers.splice(0).reverse()) await one();
  };
  try {
    const controlPlane = await startIstio();
    closers.push(() => controlPlane.close());
    const stack = await startE2e({
      ...options,
      config: (defaults) => {
        const config = options.config?.(defaults) ?? defaults;
        const routes = config.routes.map((route) => {
          if (route.id !== "open") return route;
          const to = new URL(String(route.to));
          outside.forward(Number(to.port));
          return { ...route, to: `https://${outside.host}${to.pathname}` };
        });
        return { ...config, routes };
      },
      gateway: (settings) => serve(controlPlane, outside, settings),
    });
    return {
      ...stack,
      async close() {
        await stack.close();
        await close();
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function serve(controlPlane: IstioControlPlane, outside: Vendor, settings: GatewaySettings) {
  await controlPlane.apply(clusterOf(settings));
  // First as it is, then for this stack.
  const warnings = await controlPlane.apply(istioSample(settings.envoySecret));
  await controlPlane.apply(await istioManifests(settings, { [outside.host]: outside.port }));
  process.stdout.write(`Istio ${controlPlane.version}, Kubernetes ${controlPlane.kubernetes.version}\n`);
  istio = { controlPlane, outside, adminPort: settings.adminPort, warnings };
  return istioGateway(controlPlane, {
    folder: settings.folder,
    adminPort: settings.adminPort,
    imageCas: outside.trusted,
  });
}
