import type { Config, SignInProvider } from "./config.ts";

/** Parameters that `authorization_url_params` of a provider must not contain, with the configuration key to use instead, if any. */
const ownSignInParameters = new Map<string, string | undefined>([
  ...[
    "response_type",
    "response_mode",
    "redirect_uri",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "request",
    "request_uri",
    "registration",
    "id_token_hint",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "dpop_jkt",
  ].map((name) => [name, undefined] as const),
  ["client_id", "client_id"],
  ["scope", "scopes"],
]);

/** Why the file must not set this parameter of the sign-in request: the gateway's value protects the flow. Undefined if it may. */
export function signInParameterFault(
  name: string,
): { readonly message: string; readonly fix: string } | undefined {
  const own = name.toLowerCase();
  if (!ownSignInParameters.has(own)) return undefined;
  const key = ownSignInParameters.get(own);
  return {
    message: `${name} is set by the gateway: another value would disable a protection`,
    fix: key === undefined ? `remove ${name}` : `remove ${name}, and set ${key} of this provider instead`,
  };
}

/** Base URL of sign-in, on the issuer's host. */
export function signInBase(config: Pick<Config, "issuer" | "paths">): string {
  return `${config.issuer}${config.paths.prefix}/sign_in`;
}

/**
 * The redirect URI to register at a sign-in provider: one per provider (RFC 9700 section 4.4.2.2), or without an id if there is only
 * one provider.
 */
export function signInRedirectUri(
  config: Pick<Config, "issuer" | "paths" | "signIn">,
  provider: Pick<SignInProvider, "id">,
): string {
  const callback = `${signInBase(config)}/callback`;
  return config.signIn.providers.length > 1 ? `${callback}/${encodeURIComponent(provider.id)}` : callback;
}

/**
 * The sign-in provider of `idp_client_id` of an `id_jag` route without `idp_token_url`: the only provider, else the one configured with
 * the same client and secret. Undefined if there is none: the secret must go to the client's own provider only, not to the provider
 * that the caller signed in with.
 */
export function identityProviderOf(
  { signIn }: Pick<Config, "signIn">,
  { idpClientId, idpClientSecret }: { readonly idpClientId: string; readonly idpClientSecret?: string },
): SignInProvider | undefined {
  const { providers } = signIn;
  if (providers.length === 1) return providers[0];
  const matching = providers.filter(
    ({ clientId, clientSecret }) => clientId === idpClientId && clientSecret === idpClientSecret,
  );
  return matching.length === 1 ? matching[0] : undefined;
}
