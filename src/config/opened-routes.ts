import type { Route } from "../model/route.ts";
import type { TrustedIssuer } from "./config.ts";

type Named = Pick<Route, "id" | "resource">;

/**
 * Whether a trusted issuer's token with this audience opens a route. An audience that is an http(s) URL opens the one route whose
 * resource it is and, when there is no such route (any more), none; where the issuer lists routes it must be listed, too. Any other
 * audience opens the routes that the issuer lists, without a list all. Routes listed for this very audience are all it opens.
 */
export function opensRoute(audience: string, listed: TrustedIssuer["routes"], route: Named): boolean {
  const { forAudience, forAll } = lists(audience, listed);
  if (forAudience) return names(forAudience, route);
  if (isUrl(audience) && withoutSlash(audience) !== route.resource) return false;
  return forAll ? names(forAll, route) : true;
}

/** Whether the audience is a URL, which means one place, rather than a word for this gateway. */
export function isUrl(audience: string): boolean {
  return /^https?:/i.test(audience);
}

/** The lists that say what an audience opens. */
export function lists(
  audience: string,
  listed: TrustedIssuer["routes"],
): { readonly forAudience?: readonly string[]; readonly forAll?: readonly string[] } {
  if (listed === undefined) return {};
  if (isList(listed)) return { forAll: listed };
  return Object.hasOwn(listed, audience)
    ? { forAudience: listed[audience] }
    : { forAll: isUrl(audience) ? undefined : [] };
}

/** Whether a route is among those named by id or URL. */
export function names(wanted: readonly string[], { id, resource }: Named): boolean {
  return wanted.some((name) => name === id || withoutSlash(name) === resource);
}

function isList(listed: NonNullable<TrustedIssuer["routes"]>): listed is readonly string[] {
  return Array.isArray(listed);
}

/** Our resource identifiers: scheme and host in lower case, default port and last slash left out. */
function withoutSlash(name: string): string {
  const url = URL.parse(name);
  return url === null || !isUrl(name) ? name : url.href.replace(/\/$/, "");
}
