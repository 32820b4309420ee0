import {
  createLocalJWKSet,
  decodeProtectedHeader,
  errors,
  type JSONWebKeySet,
  type JWK,
  type JWTPayload,
  type JWTVerifyGetKey,
  jwtVerify,
} from "jose";
import { allowInsecureRequests, customFetch, discoveryRequest, processDiscoveryResponse } from "oauth4webapi";
import {
  claimAt,
  groupsOf,
  verifiedEmail,
  withoutTokenClaims,
  withWithheldGroups,
} from "../config/claims.ts";
import type { TrustedIssuer } from "../config/config.ts";
import { serviceAccountId } from "../model/subject.ts";
import type { Logger } from "../telemetry/logger.ts";
import { sharedTexts, sharedWords } from "../util/shared-values.ts";
import {
  type Caller,
  issuedTo,
  type Rejected,
  type RejectionReason,
  type VerifiedToken,
} from "./external-tokens.ts";
import type { SigningKeyRing } from "./signing-keys.ts";

// Thousands of cached tokens name the same clients and scopes.
const sharedClientId = sharedTexts();
const sharedScopes = sharedWords();
const scopesOf = (claim: unknown) => (typeof claim === "string" ? sharedScopes(claim) : []);

/**
 * Translates an error of jose's `jwtVerify` into a rejection.
 * @param read converts claims to a verified token; jose checks claims only after the signature
 * @throws the error itself if it is not about the token: the caller must fail closed.
 */
export function rejectedBy(error: unknown, read: (claims: JWTPayload) => VerifiedToken | Rejected): Rejected {
  const rejection = rejectionOf(error);
  const signed = error instanceof errors.JWTExpired || error instanceof errors.JWTClaimValidationFailed;
  const known = signed ? read(error.payload) : undefined;
  return known && "caller" in known ? { rejection, issuedTo: issuedTo(known.caller) } : { rejection };
}

function rejectionOf(error: unknown): RejectionReason {
  if (!(error instanceof Error) || !("code" in error)) throw error;
  switch (error.code) {
    case "ERR_JWT_EXPIRED":
      return "expired";
    case "ERR_JWKS_NO_MATCHING_KEY":
    case "ERR_JWKS_MULTIPLE_MATCHING_KEYS":
    case "ERR_JWS_SIGNATURE_VERIFICATION_FAILED":
    case "ERR_JOSE_ALG_NOT_ALLOWED":
      return "bad_signature";
    case "ERR_JWS_INVALID":
    case "ERR_JWT_INVALID":
    case "ERR_JOSE_NOT_SUPPORTED":
      return "malformed";
    case "issuer_unavailable":
      return "issuer_unavailable";
    case "ERR_JWT_CLAIM_VALIDATION_FAILED":
      return rejectionOfClaim(error);
    default:
      throw error;
  }
}

function rejectionOfClaim(error: Error): RejectionReason {
  if ("reason" in error && error.reason === "missing") return "missing_claim";
  const claim = "claim" in error ? error.claim : undefined;
  if (claim === "typ") return "wrong_type";
  if (claim === "iss") return "unknown_issuer";
  if (claim === "aud") return "wrong_audience";
  if (claim === "nbf") return "not_yet_valid";
  return "malformed";
}

const requiredClaims = ["sub", "aud", "exp", "iat", "jti", "client_id"];

/**
 * Verifies one of the gateway's external tokens: RFC 9068 section 4, except audience and revocation, which depend on the route
 * and on time. The kid selects a key from our own list only; the header's `jku`, `jwk` and `x5u` are ignored.
 */
export async function verifyOwnToken(
  token: string,
  options: {
    readonly issuer: string;
    readonly leeway: number;
    readonly keys: SigningKeyRing;
    /** Unix milliseconds. */
    readonly now: number;
  },
): Promise<VerifiedToken | Rejected> {
  try {
    const { payload } = await jwtVerify(
      token,
      (header) => {
        const key = header.kid ? options.keys.verifier("external_token", header.kid) : undefined;
        if (!key) throw Object.assign(new Error("no such key"), { code: "ERR_JWKS_NO_MATCHING_KEY" });
        return key;
      },
      {
        algorithms: ["ES256"],
        typ: "at+jwt",
        issuer: options.issuer,
        requiredClaims,
        clockTolerance: options.leeway,
        currentDate: new Date(options.now),
      },
    );
    return asOwn(payload);
  } catch (error) {
    return rejectedBy(error, asOwn);
  }
}

function asOwn(payload: JWTPayload): VerifiedToken | Rejected {
  const { sub, client_id: clientId, grant_id: grantId, session_name: sessionName } = payload;
  const audience = typeof payload.aud === "string" ? [payload.aud] : payload.aud;
  if (typeof sub !== "string" || typeof clientId !== "string" || !audience) return { rejection: "malformed" };
  if (typeof grantId !== "string" && typeof sessionName !== "string") return { rejection: "missing_claim" };
  // Only tokens minted for a browser session are valid for more than one route.
  if (audience.length !== 1 && typeof sessionName !== "string") return { rejection: "wrong_audience" };
  const via = viaOf(payload.via);
  if (via === "malformed" || (via && typeof grantId !== "string")) return { rejection: "malformed" };
  const isServiceAccount = sub.startsWith(`${serviceAccountId}/`);
  return {
    audience,
    expiresAt: payload.exp ?? 0,
    token: { issuedAt: payload.iat, id: payload.jti },
    grantId: typeof grantId === "string" ? grantId : undefined,
    sessionName: typeof sessionName === "string" ? sessionName : undefined,
    caller: {
      userId: sub,
      // The token contains only the user id; the rest comes from the sign-in record, which a service account does not have.
      groups: [],
      claims: {},
      clientId: sharedClientId(clientId),
      grantId: typeof grantId === "string" ? grantId : undefined,
      scopes: scopesOf(payload.scope),
      expiresAt: payload.exp ?? 0,
      kind: isServiceAccount ? "service_account" : "person",
      // The authorization server sets `false` if the client may not use refresh tokens.
      ...(typeof payload.mcp_path === "string" && { askedPath: payload.mcp_path }),
      ...(via && { via }),
      refreshable: !isServiceAccount && typeof sessionName !== "string" && payload.refreshable !== false,
    },
  };
}

/** The aggregated route through which a token's caller calls (`member-tokens.ts`). */
function viaOf(claim: unknown): Caller["via"] | "malformed" {
  if (claim === undefined) return undefined;
  if (typeof claim !== "object" || claim === null || !("route" in claim)) return "malformed";
  const sourceIp = "source_ip" in claim ? claim.source_ip : undefined;
  if (typeof claim.route !== "string" || (sourceIp !== undefined && typeof sourceIp !== "string"))
    return "malformed";
  return { aggregate: claim.route, ...(sourceIp !== undefined && { sourceIp }) };
}

const acceptedTypes = new Set(["jwt", "at+jwt", "application/jwt", "application/at+jwt"]);
const asymmetric = /^(ES|RS|PS)(256|384|512)$|^EdDSA$|^Ed25519$/;
const verifyAgainMs = 300_000;

/**
 * Verifies a token of a trusted foreign issuer: signature by that issuer's keys, `exp`, audience, required claims.
 * A token bound to a key (`cnf`, RFC 7800) is rejected: as a bearer token it would lose that protection.
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
): Promise<VerifiedToken | Rejected> {
  try {
    const { typ } = decodeProtectedHeader(token);
    if (typ !== undefined && !acceptedTypes.has(typ.toLowerCase())) return { rejection: "wrong_type" };
    const { payload } = await jwtVerify(token, options.keys, {
      algorithms: trusted.algorithms.filter((algorithm) => asymmetric.test(algorithm)),
      issuer: trusted.issuer,
      audience: [...trusted.audience],
      requiredClaims: ["exp"],
      clockTolerance: options.leeway,
      currentDate: new Date(options.now),
    });
    if (payload.cnf !== undefined) return { rejection: "wrong_type" };
    for (const [name, wanted] of Object.entries(trusted.requiredClaims)) {
      if (!satisfies(claimAt(payload, name), wanted)) return { rejection: "missing_claim" };
    }
    return asForeign(payload, trusted, options.now);
  } catch (error) {
    return rejectedBy(error, (claims) => asForeign(claims, trusted, options.now));
  }
}

function asForeign(payload: JWTPayload, trusted: TrustedIssuer, now: number): VerifiedToken | Rejected {
  const { email, claims, unusable } = verifiedEmail(payload, trusted);
  const user = unusable ? undefined : claimAt(claims, trusted.claims.user);
  if (typeof user !== "string" || user === "") return { rejection: "missing_claim" };
  const name = claimAt(claims, trusted.claims.name);
  const clientId = payload.client_id ?? payload.azp;
  const expiresAt = payload.exp ?? 0;
  const audience = [payload.aud ?? []].flat();
  return {
    // Audiences that are not configured grant nothing.
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
      clientId: typeof clientId === "string" ? sharedClientId(clientId) : trusted.id,
      scopes: scopesOf(payload.scope),
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

/**
 * The keys of a foreign key set (RFC 7517 section 5). Ignores entries that are not keys, and members that are null.
 *
 * @returns undefined if there is no list of keys
 */
export function readableKeys(keySet: unknown): JWK[] | undefined {
  if (typeof keySet !== "object" || keySet === null || !("keys" in keySet)) return undefined;
  if (!Array.isArray(keySet.keys)) return undefined;
  const keys: unknown[] = keySet.keys;
  return keys.flatMap((key) => {
    if (typeof key !== "object" || key === null || Array.isArray(key)) return [];
    const members = Object.entries(key).filter(([, value]) => value !== null);
    // jose validates the members when it imports the key.
    return [Object.fromEntries(members) as JWK];
  });
}

const refreshAfterMs = 600_000;
const unknownKeyCooldownMs = 30_000;
const failureCooldownMs = 5_000;

/** An issuer's keys cannot be fetched now, and none are known. */
export const issuerUnavailable = "issuer_unavailable";

/**
 * Keys of one foreign issuer. They are fetched when first needed, refreshed in the background while in use, and fetched at once
 * (at most every 30 s) for an unknown kid. Known keys stay in use while the issuer is down.
 * The key function throws jose's `JWKSNoMatchingKey` or an Error with code `issuer_unavailable`.
 */
export function issuerKeys(deps: {
  readonly issuer: string;
  /** Absent: discovered (OpenID Connect Discovery 1.0 section 4). */
  readonly jwksUri?: string;
  readonly fetch: typeof globalThis.fetch;
  readonly logger: Logger;
  /** Unix milliseconds. */
  readonly now: () => number;
}): JWTVerifyGetKey {
  const { issuer, logger, now } = deps;
  let known: ReturnType<typeof createLocalJWKSet> | undefined;
  let fetchedAt = Number.NEGATIVE_INFINITY;
  let attemptedAt = Number.NEGATIVE_INFINITY;
  let underWay: Promise<void> | undefined;

  const fetchKeys = async () => {
    attemptedAt = now();
    const response = await deps.fetch(deps.jwksUri ?? (await discoverJwksUri(issuer, deps.fetch)), {
      headers: { accept: "application/json, application/jwk-set+json" },
      redirect: "manual",
    });
    if (response.status !== 200) throw new Error(`the issuer's key set endpoint returned ${response.status}`);
    const keySet: JSONWebKeySet = await response.json();
    const keys = readableKeys(keySet);
    known = createLocalJWKSet(keys ? { keys } : keySet);
    fetchedAt = now();
  };
  const load = () => {
    underWay ??= fetchKeys()
      .catch((error: Error) =>
        logger.warn(
          { issuer, code: issuerUnavailable, reason: error.message },
          "cannot fetch the issuer's keys",
        ),
      )
      .finally(() => {
        underWay = undefined;
      });
    return underWay;
  };

  return async (header, token) => {
    if (!known) {
      if (underWay || now() - attemptedAt >= failureCooldownMs) await load();
      if (!known)
        throw Object.assign(new Error("the issuer's keys are not known"), { code: issuerUnavailable });
    } else if (now() - fetchedAt >= refreshAfterMs && now() - attemptedAt >= unknownKeyCooldownMs) {
      void load();
    }
    try {
      return await known(header, token);
    } catch (error) {
      const unknownKey = error instanceof errors.JWKSNoMatchingKey;
      if (!unknownKey || (!underWay && now() - attemptedAt < unknownKeyCooldownMs)) throw error;
      await load();
      return known(header, token);
    }
  };
}

async function discoverJwksUri(issuer: string, fetch: typeof globalThis.fetch): Promise<string> {
  const url = new URL(issuer);
  const response = await discoveryRequest(url, {
    [customFetch]: fetch,
    // The injected fetch decides whether plain HTTP is allowed.
    [allowInsecureRequests]: url.protocol === "http:",
  });
  const metadata = await processDiscoveryResponse(url, response);
  if (!metadata.jwks_uri) throw new Error("the issuer's metadata has no jwks_uri");
  return metadata.jwks_uri;
}
