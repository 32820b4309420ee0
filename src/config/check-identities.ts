import type { PolicyNode, Route } from "../model/route.ts";
import type { Config, SignInProvider, TrustedIssuer } from "./config.ts";
import type { Reporter } from "./reporter.ts";
import type { ConfigPath } from "./yaml-source.ts";

type Named = Pick<Route, "id" | "resource">;

/**
 * Whether a trusted issuer's token with this audience is valid for a route. An http(s) URL is valid only for the route with this
 * resource, which must be listed if the issuer lists routes. Any other audience is valid for the listed routes, without a list for all.
 * If routes are listed for this audience, it is valid for exactly those.
 */
export function isValidForRoute(audience: string, listed: TrustedIssuer["routes"], route: Named): boolean {
  const { forAudience, forAll } = routeListsFor(audience, listed);
  if (forAudience) return includesRoute(forAudience, route);
  if (isUrl(audience) && withoutSlash(audience) !== route.resource) return false;
  return forAll ? includesRoute(forAll, route) : true;
}

/** Whether the audience is a URL, which identifies one route, or a name for the whole gateway. */
export function isUrl(audience: string): boolean {
  return /^https?:/i.test(audience);
}

/** The route lists that apply to an audience. */
export function routeListsFor(
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
export function includesRoute(wanted: readonly string[], { id, resource }: Named): boolean {
  return wanted.some((name) => name === id || withoutSlash(name) === resource);
}

function isList(listed: NonNullable<TrustedIssuer["routes"]>): listed is readonly string[] {
  return Array.isArray(listed);
}

/** Normalizes to a resource identifier: scheme and host in lower case, without default port and trailing slash. */
function withoutSlash(name: string): string {
  const url = URL.parse(name);
  return url === null || !isUrl(name) ? name : url.href.replace(/\/$/, "");
}

interface Source {
  readonly source: SignInProvider | TrustedIssuer;
  readonly path: ConfigPath;
}

/** Warns of valid settings of providers and trusted issuers that admit fewer or more users than expected. */
export function checkIdentities(config: Config, reporter: Reporter): void {
  const { signIn, externalTokens } = config;
  const issuers = externalTokens.trustedIssuers.map((source, index) => ({
    source,
    path: ["external_tokens", "trusted_issuers", index],
  }));
  const providers = signIn.providers.map((source, index) => ({
    source,
    path: ["sign_in", "providers", index],
  }));
  checkEmail(config, [...providers, ...issuers], reporter);
  for (const { source, path } of issuers) checkAudiences(config, source, path, reporter);
}

function checkEmail(config: Config, sources: readonly Source[], reporter: Reporter): void {
  const usesEmail = policiesOf(config).some((node) => asksForEmail(node, sources));
  for (const { source, path } of sources) {
    if (source.emailDomains !== undefined) continue;
    if (source.trustEmail !== undefined) {
      if (usesEmail && sources.length > 1)
        reporter.warn(
          path,
          `policy uses e-mail addresses, and ${source.id} is one of several sources: it can assign its users addresses of any domain, including those of another source`,
          "set email_domains to the domains it is authoritative for",
        );
      continue;
    }
    const { user, email } = source.claims;
    const userIsAddress = user === email || user === "email";
    if (!usesEmail && !userIsAddress) continue;
    const what = userIsAddress
      ? `users are identified by e-mail address (claims.user: ${user})`
      : "policy uses e-mail addresses";
    reporter.warn(
      path,
      `${what}, and an address is used only if ${source.id} sends email_verified: true with it; addresses stored by earlier versions are unused until the next sign-in or recheck`,
      "set email_domains to the domains it is authoritative for, or trust_email: true if it verifies every address (false: it always sends the claim)",
    );
  }
}

function checkAudiences(config: Config, issuer: TrustedIssuer, path: ConfigPath, reporter: Reporter): void {
  const { audience, routes: listed } = issuer;
  const servers = config.routes.filter(({ mcp }) => mcp.kind === "server");
  for (const one of audience) {
    const { forAudience, forAll } = routeListsFor(one, listed);
    if (!isUrl(one) && !forAudience && !forAll) {
      reporter.warn(
        path,
        `a token for ${JSON.stringify(one)} is valid for every MCP route, including those added later`,
        "list its routes under routes (ids or URLs)",
      );
    } else if (
      !forAudience &&
      (isUrl(one) || forAll?.length === 0) &&
      !servers.some((route) => isValidForRoute(one, listed, route))
    ) {
      reporter.warn(
        [...path, "audience"],
        `a token for ${JSON.stringify(one)} is valid for no route: no route has that URL, or it is not listed`,
        `list its routes: routes: {${JSON.stringify(one)}: [ids]}`,
      );
    }
  }
  const listsOfNames = listed === undefined ? [] : Array.isArray(listed) ? [listed] : Object.values(listed);
  for (const name of new Set(listsOfNames.flat()))
    if (!servers.some((route) => includesRoute([name], route)))
      reporter.warn(
        [...path, "routes"],
        `there is no MCP route ${JSON.stringify(name)} in this file`,
        "write the id or `from` of an MCP route; ignore this if the route will be created with the admin API",
      );
  if (listed !== undefined && !Array.isArray(listed))
    for (const one of Object.keys(listed))
      if (!audience.includes(one))
        reporter.error(
          [...path, "routes", one],
          `${JSON.stringify(one)} is not among the audiences of this issuer`,
          "add it to audience, or remove it here",
        );
}

function policiesOf({ policy, routes, adminApi }: Config): PolicyNode[] {
  const sources = [
    ...[policy, adminApi.admins, adminApi.viewers].flatMap((one) => (one ? [one] : [])),
    ...routes.flatMap((route) => (route.policy ? [route.policy] : [])),
  ];
  return sources.flatMap((rules) => rules.map(({ when }) => when));
}

function asksForEmail(node: PolicyNode, sources: readonly Source[]): boolean {
  if (node.op !== "criterion") return node.nodes.some((one) => asksForEmail(one, sources));
  const { criterion, claim } = node;
  if (criterion === "claim")
    return claim === "email" || sources.some(({ source }) => source.claims.email === claim);
  return criterion === "email" || criterion === "domain";
}
