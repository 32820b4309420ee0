/**
 * Lenient readers for descriptive members of other servers' documents: null, "" and a missing member are equal, numbers and lists may be
 * text and vice versa. Not for security-relevant members (`iss`, `aud`, `redirect_uris`, ...), which are compared verbatim.
 */

/** Non-empty text. A list of one text is that text. */
export function textOf(value: unknown): string | undefined {
  const one = Array.isArray(value) && value.length === 1 ? value[0] : value;
  return typeof one === "string" && one.trim() !== "" ? one.trim() : undefined;
}

/** A list of texts, or one text separated by spaces or commas. Listed texts are split only at spaces. Undefined: none. */
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

/** An object; undefined for lists. */
export function objectOf(value: unknown): Record<string, unknown> | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : undefined;
}

/** Numbers from here on are ms since 1970, and smaller ones seconds (until the year 2286). */
const firstMs = 1e10;

/** A time: seconds or ms since 1970, or a date as text (RFC 3339, RFC 9110). Returns Unix ms; undefined for 0 and unreadable values. */
export function timeOf(value: unknown): number | undefined {
  const number = numberOf(value);
  if (number !== undefined) return number > 0 ? (number < firstMs ? number * 1000 : number) : undefined;
  const text = textOf(value);
  const time = text === undefined ? Number.NaN : Date.parse(text);
  return Number.isNaN(time) ? undefined : time;
}

/** Maximum length, characters: parsing a megabyte of nested JSON blocks the event loop for hundreds of ms. */
const maxLength = 128 * 1024;

/** Parses a JSON object from a server: metadata, tokens, a registration. Undefined if it is something else or too long. */
export function readJsonObject(text: string): Record<string, unknown> | undefined {
  if (text.length > maxLength) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}
