/** By folder of `test/`. */
const names = {
  admin: ["admin-api", "doctor", "door-health"],
  "authorization-server": [
    "audit-trail",
    "authorization",
    "client-fetches",
    "clients",
    "metadata",
    "metrics",
    "outage",
    "tokens",
    "upstream-consent",
  ],
  challenge: ["challenge", "nameless", "tools-list"],
  check: [
    "changed-upstream",
    "check",
    "failure",
    "grpc-server",
    "malformed",
    "refusal-audit",
    "upstream-url",
    "wire-compatibility",
  ],
  compatibility: [
    "client-registration",
    "configured-places",
    "discovery",
    "endpoint",
    "grants",
    "provider-answers",
    "resource",
    "sign-in-parameters",
    "upstream-answers",
    "upstream-faults",
    "upstream-redirects",
  ],
  config: [
    "documentation",
    "listener-faults",
    "opened-routes",
    "policy",
    "pomerium",
    "problems",
    "refused-at-load",
    "request-headers",
    "routes",
    "verified-email",
  ],
  "external-token": ["external-tokens", "metadata-proofs", "signing-keys"],
  portal: ["connect", "documentation"],
  "sign-in": ["back-channel-logout", "old-records", "person-claims", "recheck-races", "renew-tokens"],
  store: [
    "audit-trail",
    "authorization-server-records",
    "client-issuers",
    "client-registrations",
    "delegations",
    "keys-of-groups",
    "pending-authorizations",
    "people",
    "sessions",
    "signing-keys",
    "stored-routes",
    "upstream-tokens",
  ],
  "upstream-oauth": ["consent", "discovery", "private-authority", "safe-fetch"],
  "upstream-token": ["grants", "upstream-tokens"],
};

/**
 * Test files that share processes (Vitest's `isolate: false`): starting one and importing takes a second of processor time, and code
 * that has run for a while runs faster. They mock nothing, change nothing global, start no processes, and close what they open.
 */
export const sharing = [
  "test/policy/*.test.ts",
  ...Object.entries(names).flatMap(([folder, files]) =>
    files.map((name) => `test/${folder}/${name}.test.ts`),
  ),
];
