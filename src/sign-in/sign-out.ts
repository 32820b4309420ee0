import type { Context } from "koa";
import { buildEndSessionUrl } from "openid-client";
import { errorPage, messagePage } from "../pages/error-page.ts";
import { signOutPage } from "../pages/sign-out-page.ts";
import { readForm, requestId } from "../server/http/request.ts";
import { sendPage } from "../server/http/send-page.ts";
import type { OpenidClients } from "./providers.ts";
import type { Sessions } from "./sessions.ts";
import type { SignInDeps } from "./sign-in.ts";

/** Sign-out: a page that asks, a post that does it, then the provider's own (OpenID Connect RP-Initiated Logout 1.0). */
export function createSignOut(deps: SignInDeps, clients: OpenidClients, sessions: Sessions) {
  const { routes, store, logger } = deps;

  async function ask(ctx: Context): Promise<void> {
    const person = await sessions.person(ctx);
    const csrf = sessions.csrfToken(ctx);
    if (!person || !csrf) return signedOut(ctx);
    const { prefix } = routes().config.paths;
    const page = signOutPage({
      person: person.email ?? person.name ?? person.userId,
      action: `${prefix}/sign_out`,
      csrf,
      connections: `${prefix}/routes`,
    });
    sendPage(ctx, 200, page);
  }

  async function end(ctx: Context): Promise<void> {
    const form = await readForm(ctx);
    const person = await sessions.person(ctx);
    if (!person) return signedOut(ctx);
    if (!sessions.csrfMatches(ctx, form.get("csrf"))) {
      const page = errorPage({
        title: "Not signed out",
        happened: "The request did not come from our own sign-out page.",
        remedy: "Open the sign-out page and press the button there.",
        code: "csrf",
        requestId: requestId(ctx.req),
        action: { label: "Sign-out page", href: `${routes().config.paths.prefix}/sign_out` },
      });
      return sendPage(ctx, 403, page);
    }
    await sessions.end(ctx, {
      action: "person.signed_out",
      userId: person.userId,
      requestId: requestId(ctx.req),
    });
    sessions.forget(person.userId);
    const elsewhere = await providerSignOut(person.userId);
    if (!elsewhere) return signedOut(ctx);
    ctx.status = 303;
    ctx.redirect(elsewhere);
  }

  /** The provider's sign-out page. No return address: providers refuse one that was not registered with them. */
  async function providerSignOut(userId: string): Promise<string | undefined> {
    const signedIn = await store.signInSessions.find(userId);
    const provider = routes().config.signIn.providers.find(({ id }) => id === signedIn?.providerId);
    if (!signedIn?.idToken || !provider) return undefined;
    try {
      const client = await clients.of(provider);
      if (!client.serverMetadata().end_session_endpoint) return undefined;
      return buildEndSessionUrl(client, { id_token_hint: signedIn.idToken }).href;
    } catch (error) {
      logger.warn(
        { code: "provider_sign_out", reason: String(error) },
        "provider cannot be reached at sign-out",
      );
      return undefined;
    }
  }

  function signedOut(ctx: Context): void {
    sendPage(
      ctx,
      200,
      messagePage({
        title: "You are signed out",
        text: "You can close this window.",
        action: { label: "Sign in again", href: `${routes().config.paths.prefix}/routes` },
      }),
    );
  }

  return { ask, end };
}
