import type { Scenario } from "./scenario.ts";

/** Word in the sidecar's log that tells why it went no further. */
const reasons: Readonly<Record<string, string>> = {
  "auth/resource-mismatch": "resource_mismatch",
  "auth/iss-supported-missing": "issuer_mismatch",
  "auth/iss-wrong-issuer": "issuer_mismatch",
  "auth/iss-unexpected": "issuer_mismatch",
  "auth/iss-normalized": "issuer_mismatch",
  "auth/metadata-issuer-mismatch": "issuer_mismatch",
  "auth/scope-retry-limit": "scope_not_grantable",
};

/**
 * What is wrong with a scenario that passed because nothing happened: these want a refusal, and anything that is broken
 * refuses, too. So the sidecar has to have refused for the reason in question.
 */
export function wrongReason(scenario: Scenario, sidecarLog: string): string | undefined {
  const reason = reasons[scenario.name];
  if (reason === undefined || sidecarLog.includes(`"reason":"${reason}"`)) return undefined;
  return `the sidecar did not refuse because of ${reason}`;
}
