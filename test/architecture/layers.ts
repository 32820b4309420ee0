/** The modules of src/ from the lowest layer to the highest; each imports from lower layers only. docs/architecture.md lists them. */
export const layers: readonly (readonly string[])[] = [
  ["util"],
  ["model"],
  ["telemetry"],
  ["egress", "store", "workers"],
  ["config"],
  ["envoy-config", "import-servers", "pages", "policy", "external-tokens", "upstream-oauth"],
  ["audit-trail", "server", "upstream-tokens"],
  ["sign-in"],
  ["ext-authz", "ext-proc", "authorization-server", "portal", "admin", "aggregation", "xds"],
  ["compose.ts"],
  ["serve.ts"],
  ["cli"],
  ["main.ts"],
];
