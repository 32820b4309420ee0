/** The `@type` of an Envoy extension's configuration. */
export function typeUrl(message: string): string {
  return `type.googleapis.com/envoy.${message}`;
}
