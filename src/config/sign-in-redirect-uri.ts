import type { Config, SignInProvider } from "./config.ts";

/** Sign-in, on the issuer's host. */
export function signInBase(config: Pick<Config, "issuer" | "paths">): string {
  return `${config.issuer}${config.paths.prefix}/sign_in`;
}

/**
 * The redirect URI to register at a sign-in provider: one per provider (RFC 9700 section 4.4.2.2). Where there is one provider
 * only, the one without an id, which cannot be mistaken.
 */
export function signInRedirectUri(
  config: Pick<Config, "issuer" | "paths" | "signIn">,
  provider: Pick<SignInProvider, "id">,
): string {
  const callback = `${signInBase(config)}/callback`;
  return config.signIn.providers.length > 1 ? `${callback}/${encodeURIComponent(provider.id)}` : callback;
}
