import { isOwnCookie } from "../config/own-cookies.ts";
import type { ProcessingRequest, ProcessingResponse } from "./external-processor.ts";
import { headMutation } from "./rewritten-head.ts";

/**
 * Takes `Set-Cookie` headers that name a cookie of ours out of an application's answer: with one, it could sign a browser
 * in as somebody else. The others keep their bytes and order. Needs nothing of what the check left, and changes no state.
 *
 * @param message the response-headers message
 */
export function withoutOwnSetCookies(message: ProcessingRequest): ProcessingResponse {
  const headers = message.responseHeaders?.headers?.headers ?? [];
  const set = headers
    .filter(({ key }) => key?.toLowerCase() === "set-cookie")
    .map(({ value, rawValue }) => (rawValue?.length ? rawValue.toString("latin1") : (value ?? "")));
  const kept = set.filter((cookie) => !isOwnCookie(cookie));
  if (kept.length === set.length) return { responseHeaders: {} };
  return headMutation({ remove: ["set-cookie"], set: kept.map((cookie) => ["set-cookie", cookie]) });
}
