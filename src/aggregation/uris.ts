import { hash } from "node:crypto";
import type { Naming } from "./names.ts";

const schemeSafe = /^[a-z][a-z0-9.-]*$/;
const hashed = /^m-[0-9a-f]{16}$/;
/** Resources of MCP Apps: hosts of apps recognize them by this scheme. */
const appScheme = "ui://";

/** What stands for a member in URIs: its id, if it can begin a URI's scheme (RFC 3986 section 3.1), else a hash of it. */
function segment({ member: { route } }: Naming): string {
  return schemeSafe.test(route.id) && !hashed.test(route.id)
    ? route.id
    : `m-${hash("sha256", route.id, "hex").slice(0, 16)}`;
}

/**
 * The URI, or URI template (RFC 6570), of a member's resource in the aggregated route: `MEMBER+ORIGINAL`, or `ui://MEMBER/REST` for
 * MCP Apps. What an expanded template yields maps back to what the member's own template yields.
 */
export function outerUri(naming: Naming, uri: string): string {
  if (naming.transparent) return uri;
  return uri.startsWith(appScheme)
    ? `${appScheme}${segment(naming)}/${uri.slice(appScheme.length)}`
    : `${segment(naming)}+${uri}`;
}

/** The member and its own URI; undefined if the URI names no member. */
export function innerUri(
  namings: readonly Naming[],
  outer: string,
): { readonly naming: Naming; readonly uri: string } | undefined {
  for (const naming of namings) {
    if (naming.transparent) return { naming, uri: outer };
    const app = `${appScheme}${segment(naming)}/`;
    if (outer.startsWith(app)) return { naming, uri: appScheme + outer.slice(app.length) };
    const plain = `${segment(naming)}+`;
    if (outer.startsWith(plain)) return { naming, uri: outer.slice(plain.length) };
  }
  return undefined;
}
