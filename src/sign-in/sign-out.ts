import { decodeJwt, decodeProtectedHeader, type JWTPayload, jwtVerify } from "jose";
import type { Context } from "koa";
import { buildEndSessionUrl } from "openid-client";
import type { Config, SignInProvider } from "../config/config.ts";
import { errorPage, messagePage } from "../pages/error-page.ts";
import { signOutPage } from "../pages/sign-in-pages.ts";
import { readForm, requestId } from "../server/http/request.ts";
import { sendPage } from "../server/http/send-page.ts";
import { StoreUnavailable } from "../store/errors.ts";
import type { SignInSession } from "../store/sign-in-sessions.ts";
import type { OpenidClients } from "./providers.ts";
import type { Sessions } from "./sessions.ts";
import type { SignInDeps } from "./sign-in.ts";

/**
 * Sign-out: a confirmation page, a post, then the provider's sign-out (OpenID Connect RP-Initiated Logout 1.0). `sign_out.ends` says
 * whether it ends the sessions of this browser, or all access of the user.
 */
export function createSignOut(deps: SignInDeps, clients: OpenidClients, sessions: Sessions) {
  const { routes, store, logger } = deps;

  async function ask(ctx: Context): Promise<void> {
    const person = await sessions.person(ctx);
    const csrf = sessions.csrfToken(ctx);
    if (!person || !csrf) return signedOut(ctx, "nothing");
    const { paths, signOut } = routes().config;
    const { prefix } = paths;
    const page = signOutPage({
      person: person.email ?? person.name ?? person.userId,
      action: `${prefix}/sign_out`,
      csrf,
      connections: `${prefix}/routes`,
      ends: signOut.ends,
    });
    sendPage(ctx, 200, page);
  }

  async function end(ctx: Context): Promise<void> {
    const form = await readForm(ctx);
    const person = await sessions.person(ctx);
    if (!person) return signedOut(ctx, "nothing");
    if (!sessions.csrfMatches(ctx, form.get("csrf"))) {
      const page = errorPage({
        title: "Not signed out",
        happened: "The form was not submitted from this gateway's sign-out page.",
        remedy: "Open the sign-out page and press the button there.",
        code: "csrf",
        requestId: requestId(ctx.req),
        action: { label: "Sign-out page", href: `${routes().config.paths.prefix}/sign_out` },
      });
      return sendPage(ctx, 403, page);
    }
    const { userId } = person;
    // Only for the provider's page: a user can sign out also if the record cannot be read.
    const signedIn = await store.signInSessions.find(userId).catch((error: Error) => {
      logger.warn(
        { userId, reason: error.message },
        "cannot read the sign-in session; signing out here only",
      );
      return undefined;
    });
    const { ends } = routes().config.signOut;
    const audit = { action: "person.signed_out", requestId: requestId(ctx.req) } as const;
    if (ends === "everything") {
      await store.endAccessOfPerson(userId, { ...audit, reason: "signed out by the user" });
      await sessions.end(ctx);
    } else await sessions.end(ctx, { ...audit, userId });
    sessions.forget(userId);
    const elsewhere = await providerSignOut(signedIn);
    if (!elsewhere) return signedOut(ctx, ends);
    ctx.status = 303;
    ctx.redirect(elsewhere);
  }

  /** The provider's sign-out page. Without a return URL: providers reject URLs that are not registered. */
  async function providerSignOut(signedIn: SignInSession | undefined): Promise<string | undefined> {
    const provider = routes().config.signIn.providers.find(({ id }) => id === signedIn?.providerId);
    if (!signedIn?.idToken || !provider) return undefined;
    try {
      const client = await clients.of(provider);
      if (!client.serverMetadata().end_session_endpoint) return undefined;
      return buildEndSessionUrl(client, { id_token_hint: signedIn.idToken }).href;
    } catch (error) {
      logger.warn(
        { code: "provider_sign_out", reason: String(error) },
        "the provider cannot be reached at sign-out",
      );
      return undefined;
    }
  }

  /** @param ended `nothing`: there was no session */
  function signedOut(ctx: Context, ended: "nothing" | Config["signOut"]["ends"]): void {
    sendPage(
      ctx,
      200,
      messagePage({
        title: ended === "everything" ? "You are signed out everywhere" : "You are signed out",
        text: ended === "nothing" ? "You can close this window." : whatEnded[ended],
        action: { label: "Sign in again", href: `${routes().config.paths.prefix}/routes` },
      }),
    );
  }

  return { ask, end };
}

const whatEnded = {
  browser:
    "Your session in this browser has ended. Applications that you allowed keep their access. You can close this window.",
  everything:
    "Your sessions in all browsers and the access of all applications that you allowed have ended. You can close this window.",
} as const satisfies Record<Config["signOut"]["ends"], string>;

const logoutEvent = "http://schemas.openid.net/event/backchannel-logout";
const alreadyUsed = "the token has been used";
/** Seconds. */
const maxTokenAge = 300;
const clockTolerance = 30;
const algorithms = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];

/**
 * The endpoint at which the provider reports that a user has signed out (OpenID Connect Back-Channel Logout 1.0). Ends what the user's
 * own sign-out ends, in all browsers: the browser sessions, after which the next refresh of an external token checks with the provider
 * whether grants are still valid; or, with `sign_out.ends: everything`, the grants as well.
 */
export function createBackChannelLogout(deps: SignInDeps, clients: OpenidClients, sessions: Sessions) {
  const { routes, store, logger } = deps;

  async function receive(ctx: Context): Promise<void> {
    ctx.set("cache-control", "no-store");
    const token = (await readForm(ctx)).get("logout_token");
    try {
      const { provider, claims } = await verify(token ?? "");
      const id = JSON.stringify([provider.id, claims.jti]);
      if (await store.usedValues.isTaken("logout_token", id)) throw new Error(alreadyUsed);
      const person = await personOf(provider, claims);
      if (person) await signOut(person, requestId(ctx.req));
      // A token is consumed only after it was processed: after a failure, the provider can send it again.
      const expiresAt = new Date(Date.now() + (maxTokenAge + 2 * clockTolerance) * 1000);
      if (!(await store.usedValues.take("logout_token", id, expiresAt))) throw new Error(alreadyUsed);
      ctx.status = 200;
      ctx.body = "";
    } catch (error) {
      if (error instanceof StoreUnavailable) throw error;
      logger.warn(
        { code: "logout_token_rejected", reason: String(error), requestId: requestId(ctx.req) },
        "a logout token was rejected",
      );
      ctx.status = 400;
      ctx.body = { error: "invalid_request", error_description: "the logout token is invalid" };
    }
  }

  /** @throws Error or jose's errors if the checks of section 2.6 fail. */
  async function verify(token: string): Promise<{ provider: SignInProvider; claims: JWTPayload }> {
    const claimed = decodeJwt(token);
    const provider = routes().config.signIn.providers.find(({ issuer }) => issuer === claimed.iss);
    if (!provider) throw new Error("the issuer is not a configured provider");
    // Anyone may post here: check first what needs no keys of the provider.
    checkClaims(claimed, provider);
    const { alg, typ } = decodeProtectedHeader(token);
    if (!algorithms.includes(alg ?? ""))
      throw new Error("the signing algorithm of the token is not supported");
    if (typ !== undefined && !/^(application\/)?(logout\+)?jwt$/i.test(typ))
      throw new Error("the token has the wrong type");
    const { payload } = await jwtVerify(token, await clients.keysOf(provider), {
      algorithms,
      issuer: provider.issuer,
      audience: provider.clientId,
      requiredClaims: ["iat", "exp", "jti", "events"],
      maxTokenAge,
      clockTolerance,
    });
    checkClaims(payload, provider);
    return { provider, claims: payload };
  }

  /** @throws Error with the fault of the logout token. */
  function checkClaims(claims: JWTPayload, { clientId }: SignInProvider): void {
    const { aud, events, iat, exp, jti } = claims;
    if (![aud ?? []].flat().includes(clientId)) throw new Error("the token is for another audience");
    if (typeof jti !== "string" || jti === "") throw new Error("the token has no id");
    const now = Date.now() / 1000;
    if (typeof exp !== "number" || exp + clockTolerance <= now) throw new Error("the token has expired");
    if (typeof iat !== "number" || now - iat > maxTokenAge + clockTolerance)
      throw new Error("the token is too old");
    if (typeof events !== "object" || events === null || !Object.hasOwn(events, logoutEvent)) {
      throw new Error("the token reports no logout");
    }
    if ("nonce" in claims) throw new Error("a logout token has no nonce");
    const { sid, sub } = claims;
    if (typeof sid !== "string" && typeof sub !== "string")
      throw new Error("the token has neither sid nor sub");
  }

  async function personOf(provider: SignInProvider, claims: JWTPayload): Promise<SignInSession | undefined> {
    const { sid, sub } = claims;
    const bySid =
      typeof sid === "string" ? await store.signInSessions.findBySid(provider.id, sid) : undefined;
    // Older sign-ins are not stored separately: if only the user matches, all sessions of the user end.
    if (bySid || typeof sub !== "string" || provider.claims.user !== "sub") return bySid;
    return store.signInSessions.find(`${provider.id}/${sub}`);
  }

  async function signOut(person: SignInSession, id: string): Promise<void> {
    const { userId } = person;
    const reason = "signed out at the sign-in provider";
    if (routes().config.signOut.ends === "everything") {
      await store.endAccessOfPerson(userId, { action: "person.signed_out", reason, requestId: id });
      sessions.forget(userId);
      return;
    }
    // Retries if a recheck has moved it in the meantime.
    for (
      let record: SignInSession | undefined = person;
      record;
      record = await store.signInSessions.find(userId)
    )
      if (await store.signInSessions.claimCheck(userId, record.checkedAt, new Date(0))) break;
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
