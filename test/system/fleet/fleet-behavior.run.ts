import { gatewayBehavior } from "../platforms/behavior/gateway-behavior.ts";
import { startFleet } from "./fleet.ts";

/* What one sidecar's failure means to a fleet is in fleet.test.ts: another one answers. */
gatewayBehavior(
  "an Envoy of a fleet",
  async ({ names, config }) => {
    const fleet = await startFleet({ names, config });
    return { ...fleet.stack, close: fleet.close };
  },
  { parts: ["consent", "tokens", "confusion", "tool policy"] },
);
