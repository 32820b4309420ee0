import type { Header } from "./decision.ts";
import { headerName } from "./header-name.ts";
import { holdsToken } from "./holds-token.ts";
import type { RequestFacts } from "./request-facts.ts";
import { stripCookies } from "./strip-cookies.ts";

/**
 * What to set on, and remove from, a request on its way to an upstream (F2.6): the credential and the assertion go in; the TE
 * goes out wherever it stands, as do identity headers, our cookies, and an `Authorization` nobody replaced.
 *
 * @param set lower-case names.
 * @param alsoRemove one more header.
 * @param cookies `none` passes no cookie at all (MCP routes), `foreign` all but ours (client routes).
 */
export function upstreamHeaders(
  facts: RequestFacts,
  set: readonly Header[],
  cookies: "none" | "foreign",
  alsoRemove?: string,
): { readonly setHeaders: readonly Header[]; readonly removeHeaders: readonly string[] } {
  const { headers, headerNames, presented } = facts;
  const token = presented.kind === "bearer" ? presented.token : undefined;
  const setHeaders = [...set];
  const removeHeaders: string[] = [];
  for (const name of headerNames) {
    if (set.some((header) => header[0] === name)) continue;
    const value = headers[name] ?? "";
    if (name === "cookie") {
      const kept = cookies === "foreign" ? stripCookies(value) : undefined;
      if (kept === undefined || (token !== undefined && holdsToken(kept, token))) removeHeaders.push(name);
      else if (kept !== value) setHeaders.push([name, kept]);
    } else if (
      name === "authorization" ||
      name === alsoRemove ||
      headerName(name).identity ||
      (token !== undefined && holdsToken(value, token))
    ) {
      removeHeaders.push(name);
    }
  }
  return { setHeaders, removeHeaders };
}
