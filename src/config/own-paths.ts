import type { Config } from "./config.ts";

/** A path we answer ourselves. `prefix` matches the path and everything below it, never `/pathological`. */
export interface OwnPath {
  readonly match: "exact" | "prefix";
  readonly path: string;
}

/**
 * The one list of paths that we answer ourselves: Envoy turns ext_authz off for exactly these, `check/` lets them pass, and no
 * route may claim one. Issuer host: our authorization server. Route hosts: the metadata documents. Every host: `paths.prefix`.
 */
export function ownPaths(
  config: Pick<Config, "paths">,
  kind: { readonly issuer: boolean; readonly route: boolean },
): readonly OwnPath[] {
  const paths: OwnPath[] = [
    { match: "prefix", path: config.paths.prefix },
    { match: "prefix", path: "/.well-known/oauth-authorization-server" },
    { match: "prefix", path: "/.well-known/openid-configuration" },
    { match: "prefix", path: "/.well-known/oauth-protected-resource" },
    { match: "exact", path: "/.well-known/pomerium/jwks.json" },
  ];
  if (kind.issuer) paths.push({ match: "prefix", path: "/oauth" });
  return kind.issuer || kind.route ? paths : [];
}
