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
  /** @throws openid-client's errors, when the provider cannot be reached or describes itself wrongly. */
  of(provider: SignInProvider): Promise<Configuration>;
}

const lifetimeMs = 3_600_000;
const timeoutSeconds = 10;

export function createOpenidClients(fetch: typeof globalThis.fetch): OpenidClients {
  const known = new Map<string, { until: number; client: Promise<Configuration> }>();
  return {
    of(provider) {
      const { id, issuer, clientId, clientSecret } = provider;
      const key = JSON.stringify([issuer, clientId, clientSecret]);
      const cached = known.get(id + key);
      if (cached && cached.until > Date.now()) return cached.client;
      for (const stale of known.keys()) if (stale.startsWith(id)) known.delete(stale);
      const client = discover(provider, fetch);
      known.set(id + key, { until: Date.now() + lifetimeMs, client });
      client.catch(() => known.delete(id + key));
      return client;
    },
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
