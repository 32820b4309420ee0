import {
  createRemoteJWKSet,
  decodeJwt,
  type FetchImplementation,
  type JWTVerifyGetKey,
  customFetch as joseFetch,
} from "jose";
import {
  allowInsecureRequests,
  ClientSecretBasic,
  ClientSecretPost,
  Configuration,
  type CustomFetch,
  customFetch,
  discovery,
  fetchUserInfo,
  None,
  type TokenEndpointResponse,
  type TokenEndpointResponseHelpers,
} from "openid-client";
import {
  type Claims,
  claimAt,
  groupsOf,
  verifiedEmail,
  withoutClaims,
  withoutTokenClaims,
  withWithheldGroups,
} from "../config/claims.ts";
import type { SignInProvider } from "../config/config.ts";
import { readableKeys } from "../external-tokens/verify-token.ts";
import type { Subject } from "../model/subject.ts";
import type { SignInSession } from "../store/sign-in-sessions.ts";

/** OpenID clients of the configured providers; discovery is cached for an hour. */
export interface OpenidClients {
  /**
   * A failure is cached for 5 s, because unauthenticated requests cause discovery.
   * @throws openid-client's errors, if the provider cannot be reached or its metadata is invalid.
   */
  of(provider: SignInProvider): Promise<Configuration>;
  /**
   * The provider's key set, for unsolicited tokens. Refetched for unknown keys at most every 30 s.
   * @throws as `of`; Error if the provider publishes no keys
   */
  keysOf(provider: SignInProvider): Promise<JWTVerifyGetKey>;
}

const lifetimeMs = 3_600_000;
const failureMs = 5_000;
const timeoutSeconds = 10;

export function createOpenidClients(fetch: typeof globalThis.fetch): OpenidClients {
  interface Known {
    readonly of: string;
    until: number;
    readonly client: Promise<Configuration>;
    keys?: JWTVerifyGetKey;
  }
  const known = new Map<string, Known>();

  function find(provider: SignInProvider): Known {
    const { id, issuer, clientId, clientSecret } = provider;
    const of = JSON.stringify([issuer, clientId, clientSecret]);
    const cached = known.get(id);
    if (cached?.of === of && cached.until > Date.now()) return cached;
    const made: Known = { of, until: Date.now() + lifetimeMs, client: discover(provider, fetch) };
    known.set(id, made);
    made.client.catch(() => {
      made.until = Date.now() + failureMs;
    });
    return made;
  }

  return {
    of: (provider) => find(provider).client,
    async keysOf(provider) {
      const entry = find(provider);
      const { jwks_uri: jwksUri } = (await entry.client).serverMetadata();
      if (!jwksUri) throw new Error("the provider publishes no keys");
      entry.keys ??= createRemoteJWKSet(new URL(jwksUri), {
        [joseFetch]: coolingDown((url, init) => fetch(url, init)),
        timeoutDuration: timeoutSeconds * 1000,
      });
      return entry.keys;
    },
  };
}

/** Adds a cooldown after failures; jose has one only after successful fetches. */
function coolingDown(fetchKeys: FetchImplementation): FetchImplementation {
  let failedAt = Number.NEGATIVE_INFINITY;
  return async (url, init) => {
    if (Date.now() - failedAt < failureMs) throw new Error("fetching the provider's keys failed recently");
    try {
      const response = await fetchKeys(url, init);
      if (response.status !== 200) failedAt = Date.now();
      if (response.status !== 200) return response;
      const keySet: unknown = await response.json();
      return Response.json({ keys: readableKeys(keySet) });
    } catch (error) {
      failedAt = Date.now();
      throw error;
    }
  };
}

/**
 * Normalizes a provider's token response: members that are null or "" are dropped, a list of scopes becomes text, a missing token type
 * becomes Bearer, and any success status becomes 200. The ID token is unchanged.
 */
async function plainTokenAnswer(response: Response): Promise<Response> {
  if (!response.ok) return response;
  const text = await response.text();
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    return new Response(text, response);
  }
  if (typeof answer !== "object" || answer === null || Array.isArray(answer))
    return new Response(text, response);
  const { scope, token_type, ...given }: Record<string, unknown> = { ...answer };
  const says = Object.entries(given).filter(([, value]) => value !== null && value !== "");
  const members = {
    ...Object.fromEntries(says),
    token_type: token_type === undefined || token_type === null || token_type === "" ? "Bearer" : token_type,
    ...(scope ? { scope: Array.isArray(scope) ? scope.join(" ") : scope } : {}),
  };
  return Response.json(members);
}

async function discover(provider: SignInProvider, fetch: typeof globalThis.fetch): Promise<Configuration> {
  const { issuer, clientId, clientSecret } = provider;
  let tokenEndpoint: string | undefined;
  const providerFetch: CustomFetch = async (url, { body, ...init }) => {
    const asked = { ...init, body: body instanceof Uint8Array ? new Uint8Array(body) : body };
    const response = await fetch(url, asked);
    return url === tokenEndpoint ? plainTokenAnswer(response) : response;
  };
  // Plain http only for an http issuer, which the configuration allows only on loopback.
  const execute = issuer.startsWith("http:") ? [allowInsecureRequests] : [];
  const options = { [customFetch]: providerFetch, timeout: timeoutSeconds, execute };
  const found = await discovery(new URL(issuer), clientId, undefined, None(), options);
  const metadata = found.serverMetadata();
  tokenEndpoint = metadata.token_endpoint && new URL(metadata.token_endpoint).href;
  if (!clientSecret) return found;
  // The first of the two methods that the provider lists; Basic without a list, post if it lists neither.
  const listed = metadata.token_endpoint_auth_methods_supported;
  const first = listed?.find((one) => one === "client_secret_basic" || one === "client_secret_post");
  const basic = listed ? first === "client_secret_basic" : true;
  const authenticate = basic ? ClientSecretBasic(clientSecret) : ClientSecretPost(clientSecret);
  const client = new Configuration(metadata, clientId, undefined, authenticate);
  client[customFetch] = providerFetch;
  client.timeout = timeoutSeconds;
  for (const extension of execute) extension(client);
  return client;
}

/** What is stored of a provider's token response. */
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

type Tokens = TokenEndpointResponse & TokenEndpointResponseHelpers;

/** A provider's claims about a user, at sign-in and at rechecks. */
export interface PersonClaims {
  /** Undefined if there are no new claims. */
  readonly claims?: Claims;
  /** The ID token is for another user and is ignored. */
  readonly anotherSubject?: true;
}

/**
 * The claims of a token response. The ID token takes precedence over userinfo. An e-mail address and its `email_verified` always come
 * from the same source. Without an ID token (OpenID Connect Core section 12.2 lets a refresh omit it), userinfo updates the last ID
 * token, except for its e-mail claims.
 * @param known.subject `sub` that the response must be about, whichever claim identifies users
 * @throws openid-client's errors, if userinfo is unavailable or about another user
 */
export async function personClaims(
  client: Configuration,
  provider: Pick<SignInProvider, "claims">,
  tokens: Tokens,
  known: { readonly subject: string; readonly idToken?: string },
): Promise<PersonClaims> {
  const idClaims: Claims | undefined = tokens.claims();
  if (idClaims && idClaims.sub !== known.subject) return { anotherSubject: true };
  const userinfo: Claims | undefined = client.serverMetadata().userinfo_endpoint
    ? await fetchUserInfo(client, tokens.access_token, known.subject)
    : undefined;
  if (idClaims) return { claims: { ...withoutEmail(userinfo ?? {}, provider, idClaims), ...idClaims } };
  if (!userinfo) return {};
  const last: Claims = known.idToken === undefined ? {} : decodeJwt(known.idToken);
  return { claims: { ...last, ...withoutEmail(userinfo, provider, last) } };
}

/** `claims` without the e-mail claims if `first` has any. */
function withoutEmail(claims: Claims, provider: Pick<SignInProvider, "claims">, first: Claims): Claims {
  const names = [provider.claims.email, "email", "email_verified"];
  return names.some((name) => claimAt(first, name) !== undefined) ? withoutClaims(claims, names) : claims;
}

/** A user, mapped from a provider's claims. */
export interface Identity extends Subject {
  /** `sub` at the provider. */
  readonly subject: string;
  readonly claims: Record<string, unknown>;
}

/**
 * Maps claims according to the provider's `claims` setting. Unverified e-mail addresses are dropped.
 * @returns undefined if the claim that identifies the user is missing or is an unverified address: anyone who can set an address
 * there could sign in as another user.
 */
export function identityFromClaims(provider: SignInProvider, providerClaims: Claims): Identity | undefined {
  const { email, claims, unusable } = verifiedEmail(providerClaims, provider);
  const subject = unusable ? undefined : claims[provider.claims.user];
  if ((typeof subject !== "string" && typeof subject !== "number") || subject === "") return undefined;
  return {
    userId: `${provider.id}/${subject}`,
    subject: String(subject),
    email,
    name: text(claims[provider.claims.name]),
    groups: groupsOf(claims[provider.claims.groups]),
    claims: withWithheldGroups(withoutTokenClaims(withoutClaims(claims, ["azp"])), provider.claims.groups),
  };
}

function text(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

/**
 * Reduces a record of an older version to its verified claims. That version treated addresses as verified unless the provider denied it,
 * and could combine an address and its `email_verified` from two sources. `email_verified` is therefore ignored, while `trust_email` and
 * `email_domains` apply. The record stays marked until a recheck or the next sign-in replaces it.
 * @returns undefined if the user is identified by an unverified address and has to sign in again
 */
export function migrateOldRecord(
  record: SignInSession,
  providers: readonly SignInProvider[],
): SignInSession | undefined {
  const { email: _unverified, ...rest } = record;
  const source = providers.find(({ id }) => id === record.providerId) ?? {
    claims: { user: "sub", email: "email" },
  };
  const verified = record.claims.email_verified;
  const providerClaims = verified === true ? withoutClaims(record.claims, ["email_verified"]) : record.claims;
  const { email, claims, unusable } = verifiedEmail(providerClaims, source);
  if (unusable) return undefined;
  return { ...rest, ...(email !== undefined && { email }), claims };
}
