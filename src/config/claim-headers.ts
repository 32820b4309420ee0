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
  return names.size === 0 ? undefined : { claims, names };
}

/** Reports headers of a route that both a claim and another setting would set. @param path the route's */
export function checkClaimHeaders(
  headers: ClaimHeaders | undefined,
  mcp: RouteMcp,
  path: ConfigPath,
  reporter: Pick<Reporter, "error">,
): boolean {
  if (headers === undefined || mcp.kind !== "server") return true;
  const { auth, requestHeaders } = mcp;
  const others = [
    ...(auth.mode === "static" ? auth.headers.map(([name]) => name) : []),
    ...requestHeaders.set.map(([name]) => name),
    ...requestHeaders.pass,
  ];
  const twice = others.find((name) => headers.names.has(plainName(name)));
  if (twice === undefined) return true;
  reporter.error(
    [...path, "mcp", "server"],
    `${twice} is set in two places: jwt_claims_headers sets it from a claim`,
    "remove it from one of the two",
    "key",
  );
  return false;
}
