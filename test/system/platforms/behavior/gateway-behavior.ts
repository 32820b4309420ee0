import { afterAll, beforeAll, describe } from "vitest";
import type { StackConfig } from "../../../../dev/demo/stack-config.ts";
import type { E2e, E2eOptions } from "../../../support/e2e.ts";
import { confusionBehavior } from "./confusion-behavior.ts";
import { consentBehavior } from "./consent-behavior.ts";
import { failureBehavior } from "./failure-behavior.ts";
import { startFragile } from "./start-fragile.ts";
import { tokenBehavior } from "./token-behavior.ts";
import { toolPolicyBehavior, withToolPolicy } from "./tool-policy-behavior.ts";

const parts = {
  consent: consentBehavior,
  tokens: tokenBehavior,
  confusion: confusionBehavior,
  "tool policy": toolPolicyBehavior,
};

/** Which of the tests run on a platform, and what else. */
export interface GatewayBehavior {
  /** Default: all. `failures` stops and starts the sidecar. */
  readonly parts?: readonly (keyof typeof parts | "failures")[];
  /** Changes the routes file further. */
  readonly config?: (config: StackConfig) => StackConfig;
  /** Tests of this platform only, on the same stack; they run before `failures`. */
  readonly more?: (running: () => E2e) => void;
}

/**
 * What must hold with whatever gateway or installation serves a stack: the whole authorized call with the MCP SDK, tokens,
 * host and path confusion, tool policy, streaming, failures. One stack for all, since gateways may have fixed ports.
 * @param start starts a stack on the platform; `startE2e` with `gateway` or `program`
 */
export function gatewayBehavior(
  platform: string,
  start: (options: E2eOptions) => Promise<E2e>,
  {
    parts: wanted = ["consent", "tokens", "confusion", "tool policy", "failures"],
    config,
    more,
  }: GatewayBehavior = {},
): void {
  describe(platform, () => {
    let running: Awaited<ReturnType<typeof startFragile>>;
    beforeAll(async () => {
      running = await startFragile(start, {
        names: ["nobody.test", "all.test"],
        config: (defaults) => withToolPolicy(config?.(defaults) ?? defaults),
      });
    });
    afterAll(() => running?.close());

    for (const part of wanted) if (part !== "failures") parts[part](() => running.stack);
    more?.(() => running.stack);
    if (wanted.includes("failures")) failureBehavior(() => running);
  });
}
