import type { Scenario } from "./scenario.ts";

/** Reason code in the sidecar's log, by scenario. */
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
 * Checks why a scenario passed that expects a rejection: any defect would also reject, so the sidecar's log must contain the expected
 * reason. Returns the problem, if any.
 */
export function wrongReason(scenario: Scenario, sidecarLog: string): string | undefined {
  const reason = reasons[scenario.name];
  if (reason === undefined || sidecarLog.includes(`"reason":"${reason}"`)) return undefined;
  return `the sidecar did not reject because of ${reason}`;
}
