import { z } from "zod";
import type { ClaimHeaders, RouteMcp } from "../model/route.ts";
import { isTokenClaim } from "./claims.ts";
import { claimHeaderFault, plainName } from "./header-names.ts";
import type { Reporter } from "./reporter.ts";
import type { ConfigPath } from "./yaml-source.ts";

const maxHeaders = 20;
/** Claims of an assertion that say who issued it, for whom, or for which client, and what a claim of the provider must not replace. */
const reserved = new Set(["act", "azp", "client_id", "may_act", "scope"]);

/** Why a claim cannot be passed to upstreams; undefined if it can. */
function claimFault(claim: string): { readonly message: string; readonly fix: string } | undefined {
  if (!/^[!-~]{1,128}$/.test(claim))
    return {
      message: `${JSON.stringify(claim)} is not the name of a claim`,
      fix: "write at most 128 printable ASCII characters without spaces: department, address/country",
    };
  if (isTokenClaim(claim) || reserved.has(claim) || claim.endsWith("_overflow"))
    return {
      message: `the claim ${claim} is about the token, not about the user, and is reserved`,
      fix: "remove it; an upstream reads it from the verified assertion",
    };
  return undefined;
}

/** `jwt_claims_headers`, as written: a mapping of header names to claims, or a list of claims. */
export function claimHeadersSchema() {
  return z.union([z.array(z.string()), z.record(z.string(), z.string())]).superRefine((given, issues) => {
    const fail = (path: (string | number)[], message: string, fix: string) =>
      issues.addIssue({ code: "custom", path, message, params: { fix } });
    const listed = Array.isArray(given);
    const pairs = pairsOf(given);
    if (pairs.length > maxHeaders) fail([], `more than ${maxHeaders} headers`, "remove some");
    const seen = new Set<string>();
    for (const [index, [header, claim]] of pairs.entries()) {
      const at = [listed ? index : header];
      const wrongClaim = claimFault(claim);
      const wrongHeader = claimHeaderFault(header);
      if (wrongClaim) fail(at, wrongClaim.message, wrongClaim.fix);
      else if (wrongHeader)
        fail(
          at,
          wrongHeader,
          listed ? "write a mapping: {X-Name-Of-Header: name-of-claim}" : "give the header another name",
        );
      const plain = plainName(header.toLowerCase());
      if (seen.has(plain))
        fail(at, `${header} is named twice`, "keep one; - and _ are the same, and case does not count");
      seen.add(plain);
    }
  });
}

type Written = z.output<ReturnType<typeof claimHeadersSchema>>;

function pairsOf(given: Written): readonly (readonly [header: string, claim: string])[] {
  return Array.isArray(given)
    ? given.map((claim) => [`x-pomerium-claim-${claim}`, claim])
    : Object.entries(given);
}

/**
 * The claims that a route's upstream gets, and the names that only the gateway may send it.
 * @param shared of all routes: a route's own setting replaces its claims; its names stay reserved
 */
export function claimHeaders(given: Written | undefined, shared?: ClaimHeaders): ClaimHeaders | undefined {
  if (given === undefined) return shared;
  const claims = pairsOf(given).map(([header, claim]) => [header.toLowerCase(), claim] as const);
  const names = new Set([...(shared?.names ?? []), ...claims.map(([header]) => plainName(header))]);
  return names.size === 0 ? undefined : newClaimHeaders(claims, names);
}

/**
 * The claims that a route can send: without those whose header another of its settings sets. Such a header is an error if the route's
 * own `jwt_claims_headers` names it; a shared one gives way, because whoever changes it does not see every route.
 *
 * @param headers from `claimHeaders`
 * @param path the route's
 * @returns `fault: true` after an error
 */
export function usableClaimHeaders(
  headers: ClaimHeaders | undefined,
  own: boolean,
  mcp: RouteMcp,
  path: ConfigPath,
  reporter: Pick<Reporter, "error" | "warn">,
): { readonly fault: boolean; readonly headers?: ClaimHeaders } {
  if (headers === undefined || mcp.kind !== "server") return { fault: false, headers };
  const { auth, requestHeaders } = mcp;
  const set = [
    ...(auth.mode === "static" ? auth.headers.map(([name]) => name) : []),
    ...requestHeaders.set.map(([name]) => name),
  ];
  const claimed = new Set(headers.claims.map(([header]) => plainName(header)));
  const at = [...path, "mcp", "server"];
  const twice = [...set, ...requestHeaders.pass].find((name) => claimed.has(plainName(name)));
  if (own && twice !== undefined) {
    reporter.error(
      at,
      `${twice} is set in two places: jwt_claims_headers sets it from a claim`,
      "remove it from one of the two",
      "key",
    );
    return { fault: true };
  }
  const notPassed = requestHeaders.pass.find((name) => headers.names.has(plainName(name)));
  if (notPassed !== undefined)
    reporter.warn(
      at,
      `${notPassed} is not passed from clients: jwt_claims_headers reserves it`,
      `remove it from request_headers.pass`,
      "key",
    );
  const replaced = new Set(set.map(plainName).filter((name) => claimed.has(name)));
  if (replaced.size === 0) return { fault: false, headers };
  reporter.warn(
    at,
    `${[...replaced].join(", ")}: the route's own value is sent instead of the claim of the top-level jwt_claims_headers`,
    "give the claim another header",
    "key",
  );
  const claims = headers.claims.filter(([header]) => !replaced.has(plainName(header)));
  return { fault: false, headers: newClaimHeaders(claims, headers.names) };
}

function newClaimHeaders(claims: ClaimHeaders["claims"], names: ReadonlySet<string>): ClaimHeaders {
  return { claims, names, key: JSON.stringify(claims) };
}
