/** Envoy configuration as plain data; the caller renders it as YAML or JSON. */
export type Json =
  | null
  | string
  | number
  | boolean
  | readonly Json[]
  | { readonly [key: string]: Json | undefined };

/** The `@type` of an Envoy extension's configuration. */
export function typeUrl(message: string): string {
  return `type.googleapis.com/envoy.${message}`;
}

/** `host:port`, `[ipv6]:port` or `unix:/path` as Envoy's `core.v3.Address`. */
export function envoyAddress(address: string): Json {
  if (address.startsWith("unix:")) return { pipe: { path: address.slice("unix:".length) } };
  const colon = address.lastIndexOf(":");
  const host = address.slice(0, colon).replace(/^\[(.*)\]$/, "$1");
  return { socket_address: { address: host, port_value: Number(address.slice(colon + 1)) } };
}
