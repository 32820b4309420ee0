import {
  createRemoteJWKSet,
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
  None,
} from "openid-client";
import type { SignInProvider } from "../config/config.ts";

/** We as relying party of each configured provider; discovery is cached for an hour. */
export interface OpenidClients {
  /**
   * A failure is answered again for 5 s: strangers make us ask.
   * @throws openid-client's errors, when the provider cannot be reached or describes itself wrongly.
   */
  of(provider: SignInProvider): Promise<Configuration>;
  /**
   * The provider's key set, for what comes without a request of ours. Fetched at most every 30 s for keys that are not in it.
   * @throws as `of`; Error, when the provider publishes no keys
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

/** jose leaves time between successful fetches only. */
function coolingDown(fetchKeys: FetchImplementation): FetchImplementation {
  let failedAt = Number.NEGATIVE_INFINITY;
  return async (url, init) => {
    if (Date.now() - failedAt < failureMs)
      throw new Error("the provider's keys could not be fetched just now");
    try {
      const response = await fetchKeys(url, init);
      if (response.status !== 200) failedAt = Date.now();
      return response;
    } catch (error) {
      failedAt = Date.now();
      throw error;
    }
  };
}

async function discover(provider: SignInProvider, fetch: typeof globalThis.fetch): Promise<Configuration> {
  const { issuer, clientId, clientSecret } = provider;
  const outward: CustomFetch = (url, { body, ...init }) =>
    fetch(url, { ...init, body: body instanceof Uint8Array ? new Uint8Array(body) : body });
  // Plain http passes only where the operator wrote an http issuer; the configuration allows that for loopback alone.
  const execute = issuer.startsWith("http:") ? [allowInsecureRequests] : [];
  const options = { [customFetch]: outward, timeout: timeoutSeconds, execute };
  const found = await discovery(new URL(issuer), clientId, undefined, None(), options);
  if (!clientSecret) return found;
  const metadata = found.serverMetadata();
  const basic = metadata.token_endpoint_auth_methods_supported?.includes("client_secret_basic") ?? true;
  const authenticate = basic ? ClientSecretBasic(clientSecret) : ClientSecretPost(clientSecret);
  const client = new Configuration(metadata, clientId, undefined, authenticate);
  client[customFetch] = outward;
  client.timeout = timeoutSeconds;
  for (const extension of execute) extension(client);
  return client;
}
