import type { UpstreamOAuth as OAuthConfig } from "../model/route.ts";

/** No more than so many scopes, and none longer, is asked for because an upstream says so. */
const maxCount = 100;
const maxLength = 256;

/** What an upstream may have said: scope tokens (RFC 6749 section 3.3), bounded in number and length. */
export function readableScopes(scopes: readonly string[], most = maxCount): string[] {
  const fit = new Set<string>();
  for (const scope of scopes) {
    if (fit.size >= most) break;
    if (scope.length <= maxLength && /^[\x21\x23-\x5b\x5d-\x7e]+$/.test(scope)) fit.add(scope);
  }
  return [...fit];
}

/** Those that the operator allows to be asked for: with `max_scopes` no others than these and `scopes`. */
export function allowedScopes(auth: OAuthConfig, scopes: readonly string[]): string[] {
  const { maxScopes } = auth;
  if (maxScopes === undefined) return readableScopes(scopes);
  const ceiling = new Set([...maxScopes, ...(auth.scopes ?? [])]);
  return readableScopes(scopes).filter((scope) => ceiling.has(scope));
}
