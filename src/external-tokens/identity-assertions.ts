import { SignJWT } from "jose";
import { hasWithheldGroups } from "../config/claims.ts";
import type { Config } from "../config/config.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import type { Route } from "../model/route.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { Caller } from "./external-tokens.ts";
import { passedClaims } from "./passed-claims.ts";
import type { SigningKeyRing } from "./signing-keys.ts";

/** Limit for all group names as JSON, bytes: keeps the two headers below the limit of common servers (16 KiB in total). */
const maxGroupBytes = 3072;
const maxGroups = 100;

/** The groups claims of an identity assertion. */
export interface AssertedGroups {
  readonly groups: readonly string[];
  /** True if `groups` is incomplete, otherwise absent: an upstream must not take it for all groups. */
  readonly groups_overflow?: true;
}

/**
 * The groups that an identity assertion contains: those the operator selected, in the provider's order, up to a limit that keeps
 * the header small.
 * @param settings absent: all groups, up to 100
 * @param withheld the provider reports that the person has groups, but not which
 */
export function assertedGroups(
  groups: readonly string[],
  settings: Config["identityAssertion"] | undefined,
  withheld = false,
): AssertedGroups {
  const chosen = settings?.groups ? groups.filter(matcher(settings.groups)) : groups;
  const included: string[] = [];
  let bytes = 0;
  for (const group of chosen.slice(0, settings?.maxGroups ?? maxGroups)) {
    bytes += Buffer.byteLength(JSON.stringify(group)) + 1;
    if (bytes > maxGroupBytes) break;
    included.push(group);
  }
  const complete = included.length === chosen.length && !withheld;
  return complete ? { groups: included } : { groups: included, groups_overflow: true };
}

/** Exact names, or prefixes that end in `*`. */
function matcher(patterns: readonly string[]): (group: string) => boolean {
  const exact = new Set(patterns);
  const prefixes = patterns.flatMap((one) => (one.endsWith("*") ? [one.slice(0, -1)] : []));
  return (group) => exact.has(group) || prefixes.some((prefix) => group.startsWith(prefix));
}

/** The subject of an assertion: a caller, or a person at a browser. */
type Subject = Pick<Caller, "userId" | "email" | "name" | "groups" | "claims">;
interface Minted {
  readonly until: number;
  readonly settings: Config["identityAssertion"];
  /** `claimHeaders.key` of the route. */
  readonly claims: string | undefined;
  readonly headers: Headers;
}
type Headers = readonly (readonly [name: string, value: string])[];
export interface Assertions {
  /**
   * The two assertion headers for this subject and route, and those with claims that its `jwt_claims_headers` selects; none if the route
   * passes no identity. Synchronous once minted.
   */
  headersFor(subject: Subject, route: Route): Headers | Promise<Headers>;
}

const lifetimeSeconds = 300;
const mintAgainSeconds = 150;
const none: Headers = [];

/**
 * Mints identity assertions: an ES256 JWT per caller and route, replaced after half of its five minutes. Its audience is the
 * route's resource, so it is not valid at another route of the host. If the host has only this route, the host name is also an
 * audience: applications written for Pomerium compare it.
 */
export function createAssertions(deps: {
  readonly routes: CurrentRoutes;
  readonly keys: SigningKeyRing;
  readonly metrics?: Pick<Metrics, "limitsReached">;
  /** Unix milliseconds. */
  readonly now?: () => number;
}): Assertions {
  const { routes, keys, metrics } = deps;
  const now = deps.now ?? Date.now;
  // Keyed by the caller object, which lives as long as the token's cache entry: needs no limit and no hash.
  const minted = new WeakMap<Subject, Map<string, Minted>>();

  const mint = async (subject: Subject, route: Route, key: string): Promise<Headers> => {
    const issuedAt = Math.floor(now() / 1000);
    const signer = keys.signer("assertion");
    const { host, resource, claimHeaders } = route;
    const { userId, groups } = subject;
    const settings = routes().config.identityAssertion;
    const asserted = assertedGroups(groups, settings, hasWithheldGroups(subject));
    if (asserted.groups_overflow) metrics?.limitsReached.inc({ limit: "assertion_groups" });
    const personClaims = { ...bounded(subject, "email"), ...bounded(subject, "name"), ...asserted };
    const passed = claimHeaders && passedClaims(subject, claimHeaders, ownClaims(userId, personClaims));
    if (passed && passed.overflows > 0)
      metrics?.limitsReached.inc({ limit: "assertion_claims" }, passed.overflows);
    const assertion = await new SignJWT({ ...passed?.claims, ...personClaims })
      .setProtectedHeader({ alg: "ES256", typ: "JWT", kid: signer.kid })
      .setIssuer(host)
      .setAudience(key === host ? [resource, host] : resource)
      .setSubject(userId)
      .setIssuedAt(issuedAt)
      .setExpirationTime(issuedAt + lifetimeSeconds)
      .sign(signer.key);
    const headers: Headers = [
      ["x-pomerium-jwt-assertion", assertion],
      ["x-pomerium-assertion", assertion],
      ...(passed?.headers ?? []),
    ];
    const ofSubject = minted.get(subject) ?? new Map<string, Minted>();
    ofSubject.set(key, {
      until: (issuedAt + mintAgainSeconds) * 1000,
      settings,
      claims: claimHeaders?.key,
      headers,
    });
    minted.set(subject, ofSubject);
    return headers;
  };

  return {
    headersFor(subject, route) {
      if (!route.passIdentityHeaders) return none;
      const key = routes().isOnlyRouteOfHost(route) ? route.host : route.resource;
      const entry = minted.get(subject)?.get(key);
      const current =
        entry &&
        entry.until > now() &&
        entry.settings === routes().config.identityAssertion &&
        entry.claims === route.claimHeaders?.key;
      return current ? entry.headers : mint(subject, route, key);
    },
  };
}

/** The claims of every assertion, by the names under which `jwt_claims_headers` selects them. */
function ownClaims(
  sub: string,
  person: AssertedGroups & { readonly email?: unknown; readonly name?: unknown },
) {
  const text = (value: unknown) => (typeof value === "string" ? value : undefined);
  return {
    sub,
    email: text(person.email),
    name: text(person.name),
    groups: person.groups_overflow ? undefined : person.groups,
  };
}

/** Omits a value that would make the header too long for upstreams, and marks it as omitted. */
function bounded(subject: Subject, claim: "email" | "name"): Record<string, string | boolean> {
  const text = subject[claim];
  if (text === undefined) return {};
  return Buffer.byteLength(text) <= 256 ? { [claim]: text } : { [`${claim}_overflow`]: true };
}
