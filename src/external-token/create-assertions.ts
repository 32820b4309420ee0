import { type JWTPayload, jwtVerify, SignJWT } from "jose";
import type { Route } from "../config/route.ts";
import type { Caller } from "./caller.ts";
import type { SigningKeyRing } from "./signing-key-ring.ts";

/** Whom an assertion speaks of: a caller, or a person at a browser. */
type Subject = Pick<Caller, "userId" | "email" | "name" | "groups">;
type Headers = readonly (readonly [name: string, value: string])[];
export interface Assertions {
  /** The two assertion headers for this subject and route (F2.7); none where the route passes no identity. No promise once minted. */
  headersFor(subject: Subject, route: Route): Headers | Promise<Headers>;
  /** Verifies an assertion somebody shows us as ours (F8.14); undefined: not ours, not for this host, or expired. */
  verify(assertion: string, host: string): Promise<JWTPayload | undefined>;
}

const lifetimeSeconds = 300;
const mintAgainSeconds = 150;
const none: Headers = [];

/** Mints identity assertions: an ES256 JWT per caller and route host, minted again at half its five minutes. */
export function createAssertions(deps: {
  readonly keys: SigningKeyRing;
  /** Unix milliseconds. */
  readonly now?: () => number;
}): Assertions {
  const { keys } = deps;
  const now = deps.now ?? Date.now;
  // By the caller's object, which the cache of verified tokens keeps as long as the token: no bound or hash of its own needed.
  const minted = new WeakMap<Subject, Map<string, { readonly until: number; readonly headers: Headers }>>();

  const mint = async (subject: Subject, host: string): Promise<Headers> => {
    const issuedAt = Math.floor(now() / 1000);
    const { kid, key } = keys.signer("assertion");
    const { userId, email, name, groups } = subject;
    const assertion = await new SignJWT({ email, name, groups: [...groups] })
      .setProtectedHeader({ alg: "ES256", typ: "JWT", kid })
      .setIssuer(host)
      .setAudience(host)
      .setSubject(userId)
      .setIssuedAt(issuedAt)
      .setExpirationTime(issuedAt + lifetimeSeconds)
      .sign(key);
    const headers: Headers = [
      ["x-pomerium-jwt-assertion", assertion],
      ["x-pomerium-assertion", assertion],
    ];
    const hosts = minted.get(subject) ?? new Map<string, { until: number; headers: Headers }>();
    hosts.set(host, { until: (issuedAt + mintAgainSeconds) * 1000, headers });
    minted.set(subject, hosts);
    return headers;
  };

  return {
    headersFor(subject, route) {
      if (!route.passIdentityHeaders) return none;
      const entry = minted.get(subject)?.get(route.host);
      return entry && entry.until > now() ? entry.headers : mint(subject, route.host);
    },
    async verify(assertion, host) {
      try {
        const { payload } = await jwtVerify(
          assertion,
          ({ kid }) => {
            const key = kid ? keys.verifier("assertion", kid) : undefined;
            if (!key) throw new Error("no such key");
            return key;
          },
          {
            algorithms: ["ES256"],
            typ: "JWT",
            issuer: host,
            audience: host,
            requiredClaims: ["sub", "iat", "exp"],
            currentDate: new Date(now()),
          },
        );
        return payload;
      } catch {
        return undefined;
      }
    },
  };
}
