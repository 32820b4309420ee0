import { createRemoteJWKSet, customFetch, decodeJwt, type JWTPayload, jwtVerify } from "jose";
import type { Context } from "koa";
import type { SignInProvider } from "../config/config.ts";
import { readForm } from "../pages/read-form.ts";
import { requestId } from "../pages/request-id.ts";
import type { SignInSession } from "../store/store.ts";
import { StoreUnavailable } from "../store/store-unavailable.ts";
import type { Sessions } from "./browser-sessions.ts";
import type { OpenidClients } from "./openid-clients.ts";
import type { SignInDeps } from "./sign-in-deps.ts";

const logoutEvent = "http://schemas.openid.net/event/backchannel-logout";
const algorithms = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];

/**
 * Where the provider tells us that a person has signed out (OpenID Connect Back-Channel Logout 1.0): their browser sessions end,
 * and the next refresh of a TE asks the provider whether their grants may go on.
 */
export function createBackChannelLogout(deps: SignInDeps, clients: OpenidClients, sessions: Sessions) {
  const { routes, store, fetch, logger } = deps;

  async function receive(ctx: Context): Promise<void> {
    ctx.set("cache-control", "no-store");
    const token = (await readForm(ctx)).get("logout_token");
    try {
      const { provider, claims } = await verify(token ?? "");
      const person = await personOf(provider, claims);
      if (person) await signOut(person, requestId(ctx.req));
      ctx.status = 200;
      ctx.body = "";
    } catch (error) {
      if (error instanceof StoreUnavailable) throw error;
      logger.warn(
        { code: "logout_token_refused", reason: String(error), requestId: requestId(ctx.req) },
        "refused",
      );
      ctx.status = 400;
      ctx.body = { error: "invalid_request", error_description: "the logout token is not acceptable" };
    }
  }

  /** @throws Error or jose's errors, when section 2.6's checks fail. */
  async function verify(token: string): Promise<{ provider: SignInProvider; claims: JWTPayload }> {
    const { iss } = decodeJwt(token);
    const provider = routes().config.signIn.providers.find(({ issuer }) => issuer === iss);
    if (!provider) throw new Error("the issuer is none of our providers");
    const { jwks_uri: jwksUri } = (await clients.of(provider)).serverMetadata();
    if (!jwksUri) throw new Error("the provider publishes no keys");
    const keys = createRemoteJWKSet(new URL(jwksUri), { [customFetch]: (url, init) => fetch(url, init) });
    const { payload } = await jwtVerify(token, keys, {
      algorithms,
      issuer: provider.issuer,
      audience: provider.clientId,
      requiredClaims: ["iat", "exp", "jti", "events"],
      maxTokenAge: "5m",
      clockTolerance: 30,
    });
    const { events } = payload;
    if (typeof events !== "object" || events === null || !Object.hasOwn(events, logoutEvent)) {
      throw new Error("the token reports no logout");
    }
    if ("nonce" in payload) throw new Error("a logout token has no nonce");
    return { provider, claims: payload };
  }

  async function personOf(provider: SignInProvider, claims: JWTPayload): Promise<SignInSession | undefined> {
    const { sid, sub } = claims;
    if (typeof sid !== "string" && typeof sub !== "string") throw new Error("the token names nobody");
    const bySid =
      typeof sid === "string" ? await store.signInSessions.findBySid(provider.id, sid) : undefined;
    // A person's older sign-ins are not kept apart: where only the person matches, all their sessions here end.
    if (bySid || typeof sub !== "string" || provider.claims.user !== "sub") return bySid;
    return store.signInSessions.find(`${provider.id}/${sub}`);
  }

  async function signOut({ userId, checkedAt }: SignInSession, id: string): Promise<void> {
    await store.signInSessions.claimCheck(userId, checkedAt, new Date(0));
    const reason = "at the sign-in provider";
    await store.browserSessions.endForUser(userId, {
      action: "person.signed_out",
      userId,
      reason,
      requestId: id,
    });
    sessions.forget(userId);
  }

  return receive;
}
