import { type JWTPayload, jwtVerify } from "jose";
import { serviceAccountId } from "../model/subject.ts";
import type { Refused } from "./caller.ts";
import { refusedBy } from "./refused-by.ts";
import type { SigningKeyRing } from "./signing-key-ring.ts";
import type { VerifiedToken } from "./verified-token.ts";

const requiredClaims = ["sub", "aud", "exp", "iat", "jti", "client_id"];

/**
 * Verifies one of our own TEs: RFC 9068 section 4, except audience and revocation, which depend on the route and on time.
 * The key is chosen by kid from our own list only; whatever the header says of keys elsewhere (`jku`, `jwk`, `x5u`) is not read.
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
): Promise<VerifiedToken | Refused> {
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
    return refusedBy(error, asOwn);
  }
}

function asOwn(payload: JWTPayload): VerifiedToken | Refused {
  const { sub, client_id: clientId, grant_id: grantId, session_name: sessionName } = payload;
  const audience = typeof payload.aud === "string" ? [payload.aud] : payload.aud;
  if (typeof sub !== "string" || typeof clientId !== "string" || !audience) return { refusal: "malformed" };
  if (typeof grantId !== "string" && typeof sessionName !== "string") return { refusal: "missing_claim" };
  // F2.2: only the tokens minted for a browser session (F5.1) are good for more than one route.
  if (audience.length !== 1 && typeof sessionName !== "string") return { refusal: "wrong_audience" };
  const machine = sub.startsWith(`${serviceAccountId}/`);
  return {
    audience,
    expiresAt: payload.exp ?? 0,
    token: { issuedAt: payload.iat, id: payload.jti },
    grantId: typeof grantId === "string" ? grantId : undefined,
    sessionName: typeof sessionName === "string" ? sessionName : undefined,
    caller: {
      userId: sub,
      // A token says whose it is. Who that is, the sign-in record says; a machine has none.
      groups: [],
      claims: {},
      clientId,
      grantId: typeof grantId === "string" ? grantId : undefined,
      scopes: typeof payload.scope === "string" ? payload.scope.split(" ").filter(Boolean) : [],
      expiresAt: payload.exp ?? 0,
      kind: machine ? "service_account" : "person",
      // The authorization server says `false` where the client may not use refresh tokens.
      ...(typeof payload.mcp_path === "string" && { askedPath: payload.mcp_path }),
      refreshable: !machine && typeof sessionName !== "string" && payload.refreshable !== false,
    },
  };
}
