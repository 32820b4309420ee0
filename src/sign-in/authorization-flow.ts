import type { Context } from "koa";
import {
  AuthorizationResponseError,
  authorizationCodeGrant,
  buildAuthorizationUrl,
  calculatePKCECodeChallenge,
  randomNonce,
  randomPKCECodeVerifier,
  randomState,
} from "openid-client";
import { hasWithheldGroups } from "../config/claims.ts";
import type { SignInProvider } from "../config/config.ts";
import { signInBase, signInRedirectUri } from "../config/sign-in-providers.ts";
import { errorPage } from "../pages/error-page.ts";
import { signInChoicePage } from "../pages/sign-in-pages.ts";
import { requestId } from "../server/http/request.ts";
import { sendPage } from "../server/http/send-page.ts";
import { StoreUnavailable } from "../store/errors.ts";
import type { SignInSession } from "../store/sign-in-sessions.ts";
import { returnPath, type Taken } from "./host-handover.ts";
import { identityFromClaims, type OpenidClients, personClaims, tokensOf } from "./providers.ts";
import { browserBinding, type Sessions } from "./sessions.ts";
import type { BrowserSession, SignInDeps } from "./sign-in.ts";

/** What is stored while the browser is at the provider. */
interface PendingSignIn {
  readonly providerId: string;
  readonly codeVerifier: string;
  readonly nonce: string;
  readonly returnTo: string;
  /** Name of the browser's binding cookie. */
  readonly browser: string;
  /** Absent if started by a version with a single callback. */
  readonly redirectUri?: string;
}

const pendingMs = 10 * 60_000;

/** The authorization code flow with the sign-in provider (OpenID Connect Core section 3.1), on the issuer's host only. */
export function createSignInFlow(
  deps: SignInDeps,
  clients: OpenidClients,
  sessions: Sessions,
  handover: { askToSwitch(ctx: Context, taken: Taken, before: BrowserSession): Promise<void> },
) {
  const { routes, store, logger } = deps;
  const base = () => signInBase(routes().config);

  /** Redirects to the provider; with several providers, shows a page to choose one. */
  async function start(ctx: Context): Promise<void> {
    const { providers } = routes().config.signIn;
    const returnTo = returnPath(first(ctx.query.return_to)) ?? "/";
    const other = ctx.query.switch !== undefined;
    if (!other && (await sessions.person(ctx))) return ctx.redirect(returnTo);
    const wanted = first(ctx.query.provider);
    const provider = wanted === undefined && providers.length === 1 ? providers[0] : byId(providers, wanted);
    if (!provider) return choose(ctx, returnTo, other);
    try {
      ctx.redirect(await authorizationUrl(ctx, provider, returnTo, other));
    } catch (error) {
      failed(ctx, error, returnTo, `The sign-in provider ${provider.name} cannot be reached.`);
    }
  }

  function choose(ctx: Context, returnTo: string, other: boolean): void {
    const providers = routes().config.signIn.providers.map(({ id, name }) => {
      const query = new URLSearchParams({ provider: id, return_to: returnTo, ...(other && { switch: "1" }) });
      return { name, href: `${base()}?${query}` };
    });
    sendPage(ctx, 200, signInChoicePage({ host: ctx.host, providers }));
  }

  async function authorizationUrl(
    ctx: Context,
    provider: SignInProvider,
    returnTo: string,
    other: boolean,
  ): Promise<string> {
    const client = await clients.of(provider);
    const pending: PendingSignIn = {
      providerId: provider.id,
      codeVerifier: randomPKCECodeVerifier(),
      nonce: randomNonce(),
      returnTo,
      browser: browserBinding.set(ctx),
      redirectUri: signInRedirectUri(routes().config, provider),
    };
    const state = randomState();
    const expiresAt = new Date(Date.now() + pendingMs);
    await store.pendingAuthorizations.create({ kind: "sign_in", state, expiresAt, payload: pending });
    return buildAuthorizationUrl(client, {
      ...Object.fromEntries(
        Object.entries(provider.authorizationUrlParams).filter(([, value]) => value !== ""),
      ),
      ...promptOf(provider, other),
      redirect_uri: pending.redirectUri ?? "",
      scope: provider.scopes.join(" "),
      state,
      nonce: pending.nonce,
      code_challenge: await calculatePKCECodeChallenge(pending.codeVerifier),
      code_challenge_method: "S256",
    }).href;
  }

  /** The OpenID redirect URI. Accepts each response once, in the browser that started the sign-in. */
  async function finish(ctx: Context): Promise<void> {
    const state = first(ctx.query.state);
    const pending = state && (await store.pendingAuthorizations.consume<PendingSignIn>("sign_in", state));
    if (!pending || !browserBinding.matches(ctx, pending.payload.browser)) {
      return reject(ctx, 400, {
        code: pending ? "wrong_browser" : "sign_in_unknown",
        happened: "This sign-in was started in another browser, is already complete, or took too long.",
      });
    }
    const { returnTo } = pending.payload;
    const provider = byId(routes().config.signIn.providers, pending.payload.providerId);
    if (!provider) return reject(ctx, 400, { code: "provider_removed", returnTo });
    // RFC 9700 section 4.4.2.2: a response at another provider's callback comes from that provider.
    const redirectUri = signInRedirectUri(routes().config, provider);
    const asked = pending.payload.redirectUri ?? `${base()}/callback`;
    const here = `${routes().config.issuer}${ctx.path}`;
    if (asked !== redirectUri || here !== redirectUri) {
      const happened = `The response of ${provider.name} arrived at the wrong address.`;
      logger.warn({ provider: provider.id, requestId: requestId(ctx.req) }, "sign-in at the wrong callback");
      return reject(ctx, 400, { code: "wrong_callback", happened, returnTo });
    }
    try {
      const userId = await exchange(ctx, provider, pending.payload, { state, redirectUri });
      if (!userId) {
        const happened = `${provider.name} did not identify you: the claim “${provider.claims.user}” is missing or is an unverified e-mail address.`;
        return reject(ctx, 502, { code: "user_claim_missing", happened });
      }
      await startSession(ctx, userId, pending.payload);
    } catch (error) {
      if (error instanceof AuthorizationResponseError) {
        logger.info({ code: error.error, requestId: requestId(ctx.req) }, "sign-in rejected by the provider");
        const happened = `${provider.name} rejected the sign-in, or you canceled it.`;
        return reject(ctx, 403, { code: error.error, happened, returnTo });
      }
      failed(ctx, error, returnTo, `The sign-in at ${provider.name} failed.`);
    }
  }

  async function exchange(
    ctx: Context,
    provider: SignInProvider,
    pending: PendingSignIn,
    { state, redirectUri }: { readonly state: string; readonly redirectUri: string },
  ): Promise<string | undefined> {
    const client = await clients.of(provider);
    const here = new URL(`${redirectUri}${ctx.search}`);
    const tokens = await authorizationCodeGrant(client, here, {
      pkceCodeVerifier: pending.codeVerifier,
      expectedNonce: pending.nonce,
      expectedState: state,
      idTokenExpected: true,
    });
    const idClaims: Record<string, unknown> = tokens.claims() ?? {};
    const fromProvider = await personClaims(client, provider, tokens, { subject: String(idClaims.sub) });
    const identity = identityFromClaims(provider, fromProvider.claims ?? {});
    if (!identity) return undefined;
    if (hasWithheldGroups(identity))
      logger.warn(
        { provider: provider.id, userId: identity.userId, requestId: requestId(ctx.req) },
        "the provider withholds the user's groups, as Microsoft Entra ID does for users in more than 200 groups; policy treats them as unknown; configure the provider to send groups assigned to the application, or app roles",
      );
    const signedIn: SignInSession = {
      ...identity,
      ...tokensOf(tokens),
      providerId: provider.id,
      sid: typeof idClaims.sid === "string" ? idClaims.sid : undefined,
    };
    await store.signInSessions.put(signedIn, {
      action: "person.signed_in",
      userId: identity.userId,
      issuer: provider.issuer,
      requestId: requestId(ctx.req),
    });
    sessions.forget(identity.userId);
    return identity.userId;
  }

  /**
   * Keeps an existing session of the same user, so that tabs that sign in concurrently do not end each other's session. Asks before
   * replacing another user's session: any link can start a sign-in, and the provider decides who is signed in.
   */
  async function startSession(
    ctx: Context,
    userId: string,
    { returnTo, browser }: PendingSignIn,
  ): Promise<void> {
    const before = await sessions.person(ctx);
    const expiresAt = new Date(Date.now() + routes().config.signIn.sessionTtl * 1000);
    if (before && before.userId !== userId) {
      const taken = { userId, host: ctx.host, returnTo, browser, expiresAt: expiresAt.getTime() };
      return handover.askToSwitch(ctx, taken, before);
    }
    if (!before) {
      await sessions.end(ctx);
      await sessions.start(ctx, { userId, expiresAt });
    }
    ctx.redirect(returnTo);
  }

  function failed(ctx: Context, error: unknown, returnTo: string, happened: string): void {
    if (error instanceof StoreUnavailable) throw error;
    const code = error instanceof Error && "code" in error ? String(error.code) : "sign_in_failed";
    const reason = error instanceof Error ? error.message : "unknown";
    logger.warn({ code, reason, requestId: requestId(ctx.req) }, "sign-in failed");
    reject(ctx, 502, { code, happened, returnTo });
  }

  function reject(
    ctx: Context,
    status: number,
    why: { code: string; happened?: string; returnTo?: string },
  ): void {
    const again = why.returnTo ? `${base()}?${new URLSearchParams({ return_to: why.returnTo })}` : undefined;
    const page = errorPage({
      title: "Sign-in failed",
      happened: why.happened ?? "The sign-in provider that you used is no longer available here.",
      remedy: again ? "Try again." : "Go back to the application and start again.",
      code: why.code,
      requestId: requestId(ctx.req),
      action: again ? { label: "Sign in again", href: again } : undefined,
    });
    sendPage(ctx, status, page);
  }

  return { start, finish };
}

/** The `prompt` parameter: as configured, else consent for offline access. */
function promptOf(
  { scopes, authorizationUrlParams }: SignInProvider,
  otherUser: boolean,
): { readonly prompt?: string } {
  // OpenID Connect Core section 11: offline access requires a consent prompt.
  const usual = scopes.join(" ").split(" ").includes("offline_access") ? "consent" : "";
  const given = (authorizationUrlParams.prompt ?? usual).split(" ").filter(Boolean);
  // Switching users requires a new login.
  const prompt = otherUser ? ["login", ...given.filter((one) => one !== "none" && one !== "login")] : given;
  return prompt.length > 0 ? { prompt: prompt.join(" ") } : {};
}

function first(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}

function byId(providers: readonly SignInProvider[], id: string | undefined): SignInProvider | undefined {
  return providers.find((provider) => provider.id === id);
}
