/** Longer ones are not parsed: nesting and names make a megabyte take hundreds of ms of everybody's time. Characters. */
const maxLength = 128 * 1024;

/** A JSON object that a server wrote: metadata, tokens, a registration. Undefined: it is something else, or too long. */
export function readJsonObject(text: string): Record<string, unknown> | undefined {
  if (text.length > maxLength) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}
