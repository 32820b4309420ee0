import { randomUUID } from "node:crypto";
import { SignJWT } from "jose";
import type { SigningKeyRing } from "../../../src/external-tokens/signing-keys.ts";
import type { Store } from "../../../src/store/store.ts";
import type { Call } from "./load.ts";
import type { RotatingAuthorizationServer } from "./rotating-authorization-server.ts";

/** Writes the rows of consents, because running hundreds of flows takes too long. */
export interface Seed {
  /** Creates a grant of `userId` and returns its id. */
  grant(userId: string): Promise<string>;
  /** An external token as signed by our authorization server, with the expected result of a call. */
  call(userId: string, grantId: string, routeId: string): Promise<Call>;
  /** Creates the user's connection on the route. @param lifeSeconds lifetime of its first access token */
  connect(userId: string, routeId: string, lifeSeconds?: number): Promise<void>;
}

export function createSeed(deps: {
  readonly store: Store;
  readonly keys: SigningKeyRing;
  readonly server: RotatingAuthorizationServer;
  readonly issuer: string;
  /** Public URL and upstream of a route. */
  readonly urlsOf: (routeId: string) => { readonly resource: string; readonly upstream: string };
}): Seed {
  const { store, keys, server, issuer, urlsOf } = deps;
  const people = new Set<string>();

  /** A token is not valid without the person's sign-in record. */
  async function signedIn(userId: string): Promise<void> {
    if (people.has(userId)) return;
    people.add(userId);
    const [providerId = "", subject = ""] = userId.split("/");
    const checkedAt = new Date();
    await store.signInSessions.put({ userId, providerId, subject, groups: [], claims: {}, checkedAt });
  }

  return {
    async grant(userId) {
      await signedIn(userId);
      const id = randomUUID();
      await store.authorizationServerRecords.upsert({
        model: "Grant",
        id,
        payload: { accountId: userId, clientId: "load", kind: "Grant", jti: id },
        expiresAt: new Date(Date.now() + 86_400_000),
      });
      return id;
    },
    async call(userId, grantId, routeId) {
      const { resource } = urlsOf(routeId);
      const { kid, key } = keys.signer("external_token");
      const token = await new SignJWT({ client_id: "load", grant_id: grantId })
        .setProtectedHeader({ alg: "ES256", typ: "at+jwt", kid })
        .setIssuer(issuer)
        .setSubject(userId)
        .setAudience(resource)
        .setIssuedAt()
        .setExpirationTime("2h")
        .setJti(randomUUID())
        .sign(key);
      return { url: resource, token, owner: `${userId} ${routeId}` };
    },
    async connect(userId, routeId, lifeSeconds) {
      await signedIn(userId);
      const { upstream } = urlsOf(routeId);
      const { accessToken, refreshToken, expiresAt } = server.issue(`${userId} ${routeId}`, lifeSeconds);
      await store.upstreamTokens.put(
        {
          userId,
          routeId,
          upstream,
          issuer: server.url,
          tokenEndpoint: `${server.url}/token`,
          revocationEndpoint: `${server.url}/revoke`,
          clientId: server.clientId,
          accessToken,
          tokenType: "Bearer",
          expiresAt,
          refreshToken,
          scopes: [],
        },
        { action: "upstream_token.obtained", userId, routeId, upstream, issuer: server.url },
      );
    },
  };
}
