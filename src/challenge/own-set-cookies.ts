import { isOwnCookie } from "../config/own-cookies.ts";
import type { ProcessingRequest, ProcessingResponse } from "./external-processor.ts";

/**
 * Takes `Set-Cookie` headers that name a cookie of ours out of an upstream's answer: with one, an application could sign a browser
 * in as somebody else. The others keep their bytes and order. Needs nothing of what the check left, and changes no state.
 *
 * @param message the response-headers message
 * @param answer what the client gets; a reply of ours has none of the upstream's headers
 */
export function withoutOwnSetCookies(
  message: ProcessingRequest,
  answer: ProcessingResponse,
): ProcessingResponse {
  if (answer.immediateResponse) return answer;
  const headers = message.responseHeaders?.headers?.headers ?? [];
  const set = headers
    .filter(({ key }) => key?.toLowerCase() === "set-cookie")
    .map(({ value, rawValue }) => (rawValue?.length ? rawValue : Buffer.from(value ?? "")));
  const kept = set.filter((cookie) => !isOwnCookie(cookie.toString("latin1")));
  if (kept.length === set.length) return answer;
  const { removeHeaders = [] } = answer.responseHeaders?.response?.headerMutation ?? {};
  return {
    ...answer,
    responseHeaders: {
      response: {
        headerMutation: {
          // Envoy removes before it adds.
          removeHeaders: [...removeHeaders, "set-cookie"],
          setHeaders: kept.map((rawValue) => ({
            header: { key: "set-cookie", rawValue },
            // ext_proc takes `append_action` of 0, its default, for "overwrite".
            append: { value: true },
          })),
        },
      },
    },
  };
}
