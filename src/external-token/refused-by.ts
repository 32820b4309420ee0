import { errors, type JWTPayload } from "jose";
import type { Refusal, Refused } from "./caller.ts";
import { issuedTo } from "./issued-to.ts";
import type { VerifiedToken } from "./verified-token.ts";

/**
 * What an error of jose's `jwtVerify` says of the token.
 * @param read makes of claims what a good token's would be; jose looks at them only once the signature is good
 * @throws the error itself where it is not about the token: the caller must fail closed.
 */
export function refusedBy(error: unknown, read: (claims: JWTPayload) => VerifiedToken | Refused): Refused {
  const refusal = refusalOf(error);
  const signed = error instanceof errors.JWTExpired || error instanceof errors.JWTClaimValidationFailed;
  const known = signed ? read(error.payload) : undefined;
  return known && "caller" in known ? { refusal, issuedTo: issuedTo(known.caller) } : { refusal };
}

function refusalOf(error: unknown): Refusal {
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
      return refusalOfClaim(error);
    default:
      throw error;
  }
}

function refusalOfClaim(error: Error): Refusal {
  if ("reason" in error && error.reason === "missing") return "missing_claim";
  const claim = "claim" in error ? error.claim : undefined;
  if (claim === "typ") return "wrong_type";
  if (claim === "iss") return "unknown_issuer";
  if (claim === "aud") return "wrong_audience";
  if (claim === "nbf") return "not_yet_valid";
  return "malformed";
}
