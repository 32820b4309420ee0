import { startE2e } from "../../support/e2e.ts";
import { gatewayBehavior } from "./behavior/gateway-behavior.ts";

gatewayBehavior("an Envoy with the generated configuration", startE2e);
