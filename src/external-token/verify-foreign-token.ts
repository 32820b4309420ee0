import { decodeProtectedHeader, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from "jose";
import { claimAt, groupsOf, withoutTokenClaims, withWithheldGroups } from "../config/claims.ts";
import type { TrustedIssuer } from "../config/config.ts";
import { verifiedEmail } from "../config/verified-email.ts";
import type { Refused } from "./caller.ts";
import { refusedBy } from "./refused-by.ts";
import type { VerifiedToken } from "./verified-token.ts";

const acceptedTypes = new Set(["jwt", "at+jwt", "application/jwt", "application/at+jwt"]);
const asymmetric = /^(ES|RS|PS)(256|384|512)$|^EdDSA$|^Ed25519$/;
const verifyAgainMs = 300_000;

/**
 * Verifies a token of a trusted foreign issuer (F2.3): signature by that issuer's keys, `exp`, audience, required claims.
 * A token bound to a key (`cnf`, RFC 7800) is refused: as a bearer token it would lose what protects it.
 */
export async function verifyForeignToken(
  token: string,
  trusted: TrustedIssuer,
  options: {
    readonly keys: JWTVerifyGetKey;
    readonly leeway: number;
    /** Unix milliseconds. */
    readonly now: number;
  },
): Promise<VerifiedToken | Refused> {
  try {
    const { typ } = decodeProtectedHeader(token);
    if (typ !== undefined && !acceptedTypes.has(typ.toLowerCase())) return { refusal: "wrong_type" };
    const { payload } = await jwtVerify(token, options.keys, {
      algorithms: trusted.algorithms.filter((algorithm) => asymmetric.test(algorithm)),
      issuer: trusted.issuer,
      audience: [...trusted.audience],
      requiredClaims: ["exp"],
      clockTolerance: options.leeway,
      currentDate: new Date(options.now),
    });
    if (payload.cnf !== undefined) return { refusal: "wrong_type" };
    for (const [name, wanted] of Object.entries(trusted.requiredClaims)) {
      if (!satisfies(claimAt(payload, name), wanted)) return { refusal: "missing_claim" };
    }
    return asForeign(payload, trusted, options.now);
  } catch (error) {
    return refusedBy(error, (claims) => asForeign(claims, trusted, options.now));
  }
}

function asForeign(payload: JWTPayload, trusted: TrustedIssuer, now: number): VerifiedToken | Refused {
  const { email, claims, unusable } = verifiedEmail(payload, trusted);
  const user = unusable ? undefined : claimAt(claims, trusted.claims.user);
  if (typeof user !== "string" || user === "") return { refusal: "missing_claim" };
  const name = claimAt(claims, trusted.claims.name);
  const clientId = payload.client_id ?? payload.azp;
  const expiresAt = payload.exp ?? 0;
  const audience = [payload.aud ?? []].flat();
  return {
    // What was not configured as an audience opens nothing.
    audience: audience.filter((entry) => trusted.audience.includes(entry)),
    routes: trusted.routes,
    expiresAt,
    token: { issuedAt: payload.iat, id: payload.jti },
    verifyAgainAt: now + verifyAgainMs,
    caller: {
      userId: `${trusted.id}/${user}`,
      email,
      name: typeof name === "string" ? name : undefined,
      groups: groupsOf(claimAt(claims, trusted.claims.groups)),
      claims: withWithheldGroups(withoutTokenClaims(claims), trusted.claims.groups),
      clientId: typeof clientId === "string" ? clientId : trusted.id,
      scopes: typeof payload.scope === "string" ? payload.scope.split(" ").filter(Boolean) : [],
      expiresAt,
      kind: "foreign",
      refreshable: false,
    },
  };
}

function satisfies(actual: unknown, wanted: unknown): boolean {
  if (Array.isArray(wanted)) return wanted.some((entry) => satisfies(actual, entry));
  return Array.isArray(actual) ? actual.includes(wanted) : actual === wanted;
}
