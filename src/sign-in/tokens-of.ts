import type { TokenEndpointResponse, TokenEndpointResponseHelpers } from "openid-client";
import type { SignInSession } from "../store/store.ts";

/** What is kept of a provider's token answer, as got now. */
export function tokensOf(
  answer: TokenEndpointResponse & TokenEndpointResponseHelpers,
): Pick<
  SignInSession,
  "idToken" | "accessToken" | "accessTokenExpiresAt" | "refreshToken" | "tokensAt" | "checkedAt"
> {
  const now = new Date();
  const expiresIn = answer.expiresIn();
  return {
    idToken: answer.id_token,
    accessToken: answer.access_token,
    accessTokenExpiresAt: expiresIn === undefined ? undefined : Math.floor(now.getTime() / 1000) + expiresIn,
    refreshToken: answer.refresh_token,
    tokensAt: now.getTime(),
    checkedAt: now,
  };
}
