import { decodeProtectedHeader, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from "jose";
import type { TrustedIssuer } from "../config/config.ts";
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
      if (!satisfies(claim(payload, name), wanted)) return { refusal: "missing_claim" };
    }
    return asVerified(payload, trusted, options.now);
  } catch (error) {
    return refusedBy(error, (claims) => asVerified(claims, trusted, options.now));
  }
}

function asVerified(payload: JWTPayload, trusted: TrustedIssuer, now: number): VerifiedToken | Refused {
  const user = claim(payload, trusted.claims.user);
  if (typeof user !== "string" || user === "") return { refusal: "missing_claim" };
  const email = claim(payload, trusted.claims.email);
  const name = claim(payload, trusted.claims.name);
  const groups = claim(payload, trusted.claims.groups);
  const clientId = payload.client_id ?? payload.azp;
  const expiresAt = payload.exp ?? 0;
  const audience = [payload.aud ?? []].flat();
  return {
    // What was not configured as an audience opens nothing.
    audience: audience.filter((entry) => trusted.audience.includes(entry)),
    expiresAt,
    verifyAgainAt: now + verifyAgainMs,
    caller: {
      userId: `${trusted.id}/${user}`,
      email: typeof email === "string" ? email : undefined,
      name: typeof name === "string" ? name : undefined,
      groups: Array.isArray(groups) ? groups.filter((entry) => typeof entry === "string") : [],
      claims: payload,
      clientId: typeof clientId === "string" ? clientId : trusted.id,
      scopes: typeof payload.scope === "string" ? payload.scope.split(" ").filter(Boolean) : [],
      expiresAt,
      kind: "foreign",
      refreshable: false,
    },
  };
}

/** A claim by its name; where there is none of that name, slashes descend (`kubernetes.io/serviceaccount/name`). */
function claim(payload: JWTPayload, name: string): unknown {
  if (Object.hasOwn(payload, name)) return payload[name];
  let value: unknown = payload;
  for (const part of name.split("/")) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, part)) return undefined;
    value = Object.entries(value).find(([key]) => key === part)?.[1];
  }
  return value;
}

function satisfies(actual: unknown, wanted: unknown): boolean {
  if (Array.isArray(wanted)) return wanted.some((entry) => satisfies(actual, entry));
  return Array.isArray(actual) ? actual.includes(wanted) : actual === wanted;
}
