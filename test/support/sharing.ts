const config = [
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
];
const store = [
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
];

/**
 * Test files that share processes (Vitest's `isolate: false`), since starting one and importing takes a second of processor time,
 * longer than most of their tests. They mock nothing, change nothing global, start no servers, and what they test keeps nothing.
 */
export const sharing = [
  "test/policy/*.test.ts",
  ...config.map((name) => `test/config/${name}.test.ts`),
  ...store.map((name) => `test/store/${name}.test.ts`),
];
