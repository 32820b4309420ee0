/**
 * Members that others' documents describe themselves with, read as widely as servers write them: null, "" and a missing member are
 * the same, numbers come as text, lists as text and the other way round. Not for what security hangs on (`iss`, `aud`,
 * `redirect_uris`, ...), which is compared as it stands.
 */

/** Text that says something. A list of one text is that text. */
export function textOf(value: unknown): string | undefined {
  const one = Array.isArray(value) && value.length === 1 ? value[0] : value;
  return typeof one === "string" && one.trim() !== "" ? one.trim() : undefined;
}

/** A list of texts, or one text with spaces or commas between them, or both, as commas may be part of a listed one; undefined: none. */
export function textsOf(value: unknown): string[] | undefined {
  const [given, between] = Array.isArray(value) ? [value, /\s+/] : [[value], /[\s,]+/];
  const texts = given.flatMap((one) => (typeof one === "string" ? one.split(between).filter(Boolean) : []));
  return texts.length > 0 ? texts : undefined;
}

/** A boolean, or its name. */
export function flagOf(value: unknown): boolean | undefined {
  if (typeof value === "boolean") return value;
  const word = textOf(value)?.toLowerCase();
  return word === "true" ? true : word === "false" ? false : undefined;
}

/** A finite number, also as text. */
export function numberOf(value: unknown): number | undefined {
  const number = typeof value === "string" && value.trim() !== "" ? Number(value) : value;
  return typeof number === "number" && Number.isFinite(number) ? number : undefined;
}

/** An object; undefined for lists, too. */
export function objectOf(value: unknown): Record<string, unknown> | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : undefined;
}

/** Numbers above are ms, and those below seconds, since 1970; the year 2286 either way. */
const firstMs = 1e10;

/** A time: since 1970 in seconds or ms, or a date in words (RFC 3339, RFC 9110). Unix ms; 0 and what cannot be read: undefined. */
export function timeOf(value: unknown): number | undefined {
  const number = numberOf(value);
  if (number !== undefined) return number > 0 ? (number < firstMs ? number * 1000 : number) : undefined;
  const text = textOf(value);
  const time = text === undefined ? Number.NaN : Date.parse(text);
  return Number.isNaN(time) ? undefined : time;
}

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
