import { decodeJwt } from "jose";
import type { SignInSession } from "../../store/sign-in-sessions.ts";
import { UpstreamOAuthError } from "../errors.ts";
import type { UpstreamOAuthDeps } from "../upstream-oauth.ts";

type SignInToken = "idToken" | "accessToken";

/**
 * A user's unexpired token from the sign-in provider. An expired token is refreshed first, and never sent.
 * @throws UpstreamOAuthError `sign_in_token_missing` if the user must sign in again, `unreachable` if the provider is
 */
export async function signInToken(
  deps: Pick<UpstreamOAuthDeps, "store" | "refreshSignIn">,
  userId: string,
  which: SignInToken,
): Promise<string> {
  let session = await deps.store.signInSessions.find(userId);
  if (session && hasExpired(session, which) && !refreshedWithoutSuccess(session, which)) {
    const outcome = (await deps.refreshSignIn?.(session)) ?? "sign_in_again";
    if (outcome === "unavailable") {
      const message = "the user's token from the sign-in provider has expired and cannot be refreshed now";
      throw new UpstreamOAuthError("unreachable", message);
    }
    session = outcome === "ok" ? await deps.store.signInSessions.find(userId) : undefined;
  }
  const value = session?.[which];
  if (value && session && !hasExpired(session, which)) return value;
  throw new UpstreamOAuthError(
    "sign_in_token_missing",
    "the user's token from the sign-in provider is not available: signing in again provides one",
  );
}

function hasExpired(session: SignInSession, which: SignInToken): boolean {
  return endOf(session, which) <= Date.now();
}

/** A refresh after the token's expiry returned no newer one: many providers issue an ID token only at sign-in. */
function refreshedWithoutSuccess(session: SignInSession, which: SignInToken): boolean {
  return session.tokensAt !== undefined && session.tokensAt >= endOf(session, which);
}

/** Unix ms; infinite if the expiry is unknown. */
function endOf(session: SignInSession, which: SignInToken): number {
  const { accessTokenExpiresAt, [which]: value } = session;
  const said = which === "accessToken" ? accessTokenExpiresAt : undefined;
  return (said ?? expiryOf(value) ?? Number.POSITIVE_INFINITY) * 1000;
}

function expiryOf(token: string | undefined): number | undefined {
  try {
    return token === undefined ? undefined : decodeJwt(token).exp;
  } catch {
    return undefined;
  }
}
