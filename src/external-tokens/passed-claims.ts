import { claimAt } from "../config/claims.ts";
import type { ClaimHeaders } from "../model/route.ts";
import type { Subject } from "../model/subject.ts";

/** Limit for one claim, as JSON and as a header, bytes. */
const maxClaimBytes = 1024;
/** The same for all of them: with the groups, the headers stay below the limit of common servers (16 KiB in total). */
const maxBytes = 1536;

type Scalar = string | number | boolean;

/** The claims that a route's `jwt_claims_headers` selects, of one subject. */
export interface PassedClaims {
  /** For the identity assertion, next to those that it contains anyway; `NAME_overflow: true` instead of a claim that is too long. */
  readonly claims: Readonly<Record<string, Scalar | readonly Scalar[]>>;
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** Number of claims that were left out because they are too long. */
  readonly overflows: number;
}

/**
 * Reads the selected claims. A header is sent with the complete value or not at all: an upstream that denies by a value must not get a
 * part of it, nor one that reads as another value.
 * @param own claims that the assertion contains anyway: they take the place of the provider's claims of the same name; a value that is
 *   undefined is missing or incomplete
 */
export function passedClaims(
  { userId, claims }: Pick<Subject, "userId" | "claims">,
  { claims: selected }: ClaimHeaders,
  own: Readonly<Record<string, string | readonly string[] | undefined>>,
): PassedClaims {
  const added = new Map<string, Scalar | readonly Scalar[]>();
  const headers: [string, string][] = [];
  let overflows = 0;
  let bytes = 0;
  for (const [header, claim] of selected) {
    const inAssertion = Object.hasOwn(own, claim);
    // Pomerium's name of the user id.
    const value = inAssertion ? own[claim] : claim === "user" ? userId : passable(claimAt(claims, claim));
    if (value === undefined) continue;
    const text = headerText(value);
    const size = Math.max(
      inAssertion ? 0 : Buffer.byteLength(JSON.stringify(value)),
      Buffer.byteLength(text ?? ""),
    );
    const fits = size <= maxClaimBytes && bytes + size <= maxBytes;
    if (fits) bytes += size;
    else overflows += 1;
    if (!inAssertion && !added.has(claim)) added.set(fits ? claim : `${claim}_overflow`, fits ? value : true);
    if (fits && text !== undefined && text !== "") headers.push([header, text]);
  }
  return { claims: Object.fromEntries(added), headers, overflows };
}

/** A scalar, or a list of scalars; other values have no form in a header that all upstreams read alike. */
function passable(value: unknown): Scalar | readonly Scalar[] | undefined {
  if (isScalar(value)) return value;
  return Array.isArray(value) && value.every(isScalar) ? value : undefined;
}

function isScalar(value: unknown): value is Scalar {
  return typeof value === "string" || typeof value === "boolean" || Number.isFinite(value);
}

/**
 * A value as in a header (RFC 9110 section 5.5), lists joined with commas, in UTF-8. Undefined if an upstream could read it as another
 * value: with control characters, white space at an end, or a comma in the element of a list.
 */
function headerText(value: Scalar | readonly Scalar[]): string | undefined {
  const texts = (Array.isArray(value) ? value : [value]).map(String);
  const exact = texts.every(
    (text) =>
      text.isWellFormed() &&
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are rejected here
      !/[\u0000-\u001f\u007f]|^\s|\s$/.test(text) &&
      !(Array.isArray(value) && (text.includes(",") || text === "")),
  );
  return exact ? texts.join(",") : undefined;
}
