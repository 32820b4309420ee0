import type { Config, SignInProvider } from "./config.ts";

/** What `authorization_url_params` of a provider may not name, and the key that says it, if there is one. */
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

/** Why a sign-in request may not carry this parameter from the file: ours protect the flow. Undefined: it may. */
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

/**
 * The sign-in provider that knows `idp_client_id` of an `id_jag` route without `idp_token_url`: the only one, else the one that
 * has the same client with the same secret. Undefined where nothing says so: a client's secret is for the provider that knows the
 * client, not for whichever one the caller signed in at.
 */
export function identityProviderOf(
  { signIn }: Pick<Config, "signIn">,
  { idpClientId, idpClientSecret }: { readonly idpClientId: string; readonly idpClientSecret?: string },
): SignInProvider | undefined {
  const { providers } = signIn;
  if (providers.length === 1) return providers[0];
  const knowing = providers.filter(
    ({ clientId, clientSecret }) => clientId === idpClientId && clientSecret === idpClientSecret,
  );
  return knowing.length === 1 ? knowing[0] : undefined;
}
