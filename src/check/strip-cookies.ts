import { isOwnCookie } from "../config/own-cookies.ts";

/**
 * The Cookie header without our cookies (F2.6); others keep their bytes and order. `undefined`: nothing is left.
 */
export function stripCookies(header: string): string | undefined {
  const kept = header
    .split(";")
    .map((pair) => pair.trim())
    .filter((pair) => pair !== "" && !isOwnCookie(pair));
  return kept.length === 0 ? undefined : kept.join("; ");
}
