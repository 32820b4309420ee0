/** A JSON object as it came over the wire. */
export type JsonObject = { readonly [key: string]: unknown };

/** Whether a value is one: neither null nor a list. */
export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
