import { isOwnCookie } from "../config/own-cookies.ts";

/**
 * The Cookie header without our cookies; others keep their bytes and order. `undefined`: nothing is left.
 *
 * @param header one character per byte.
 */
export function stripCookies(header: string): string | undefined {
  const kept = pairs(header).filter((pair) => !isOwnCookie(pair));
  return kept.length === 0 ? undefined : kept.join("; ");
}

/** The Cookie header without what is not ASCII. */
export function asciiCookies(header: string): string {
  return pairs(header)
    .filter((pair) => /^[\t -~]*$/.test(pair))
    .join("; ");
}

/** Trimmed of ASCII's white space only: U+00A0 is also the last byte of an `à` in UTF-8. */
function pairs(header: string): string[] {
  return header
    .split(";")
    .map((pair) => pair.replace(/^[\t ]+|[\t ]+$/g, ""))
    .filter((pair) => pair !== "");
}
