import { randomBytes } from "node:crypto";
import { Agent } from "node:https";
import type { GoogleAuth } from "google-auth-library";
import { z } from "zod";
import { StoreMisconfigured, StoreUnavailable } from "../errors.ts";
import { type KeyEncryptionKeys, keyServiceKeys } from "./encryption.ts";

/** A symmetric key of Google Cloud KMS. */
export interface GoogleKmsKey {
  /** Names the key in stored rows, with its version: `kid/v3`. */
  readonly kid: string;
  readonly googleKms: {
    /** `projects/P/locations/L/keyRings/R/cryptoKeys/K`. */
    readonly key: string;
    /** Custom endpoint. */
    readonly endpoint?: string;
  };
}

const timeoutMs = 2_000;
const scope = "https://www.googleapis.com/auth/cloudkms";
/** Additional authenticated data: distinguishes it from other uses of the same key. */
const additionalAuthenticatedData = Buffer.from("envoy-mcp-auth").toString("base64");

const encryptAnswer = z.object({ name: z.string(), ciphertext: z.string() });
const decryptAnswer = z.object({ plaintext: z.string() });
const errorAnswer = z.object({ error: z.object({ status: z.string() }) });

/**
 * Key-encryption keys that never leave Google Cloud KMS, which wraps a data key for each row and unwraps it when the row is first
 * read (https://cloud.google.com/kms/docs/envelope-encryption). Credentials are Google's Application Default Credentials. After a
 * rotation, new rows use the new primary version; `rotate-keys` rewrites the others.
 * @param deps.fetch for trusted URLs, configured by the operator
 * @throws StoreMisconfigured if Google does not know the key or denies access; StoreUnavailable if it does not answer
 */
export async function googleKmsKeys(
  { kid, googleKms }: GoogleKmsKey,
  deps: { readonly fetch: typeof globalThis.fetch },
): Promise<KeyEncryptionKeys> {
  const auth = await googleAuth(googleKms.key, deps.fetch);
  const url = `${googleKms.endpoint ?? "https://cloudkms.googleapis.com"}/v1/${googleKms.key}`;

  async function ask<T>(schema: z.ZodType<T>, method: "encrypt" | "decrypt", body: object): Promise<T> {
    const operation = `google kms ${method}`;
    try {
      const signal = AbortSignal.timeout(timeoutMs);
      const token = await before(signal, auth.getAccessToken());
      const response = await deps.fetch(`${url}:${method}`, {
        method: "POST",
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
        body: JSON.stringify({ ...body, additionalAuthenticatedData }),
        signal,
      });
      const answer: unknown = await response.json().catch(() => undefined);
      if (response.ok) return schema.parse(answer);
      const { data } = errorAnswer.safeParse(answer);
      throw new ErrorResponse(response.status, data?.error.status ?? "");
    } catch (error) {
      throw error instanceof ErrorResponse ? error : new StoreUnavailable(operation, error);
    }
  }

  async function make() {
    const key = Uint8Array.from(randomBytes(32));
    const plaintext = Buffer.from(key).toString("base64");
    const { name, ciphertext: wrapped } = await ask(encryptAnswer, "encrypt", { plaintext });
    const version = /\/cryptoKeyVersions\/(\d+)$/.exec(name)?.[1];
    if (!version) throw new StoreUnavailable("google kms encrypt", new Error(`unexpected key name ${name}`));
    newest = `${kid}/v${version}`;
    return { kid: newest, key, wrapped };
  }

  let newest = "";
  try {
    await make();
  } catch (error) {
    if (!(error instanceof ErrorResponse) || error.status >= 500 || error.status === 429)
      throw error instanceof StoreUnavailable ? error : new StoreUnavailable("google kms", error);
    throw new StoreMisconfigured(
      "encryption_key_missing",
      `encryption.keys "${kid}": Google Cloud KMS cannot encrypt with ${googleKms.key} (${error.message}); it must be a symmetric key with an enabled primary version, and the credentials of this process need roles/cloudkms.cryptoKeyEncrypterDecrypter on it`,
      error,
    );
  }

  return keyServiceKeys({
    owns: (name) => name.startsWith(`${kid}/v`),
    newest: () => newest,
    make: () =>
      make().catch((error: unknown) => {
        throw error instanceof StoreUnavailable ? error : new StoreUnavailable("google kms encrypt", error);
      }),
    async unwrap(wrapped) {
      try {
        const { plaintext } = await ask(decryptAnswer, "decrypt", { ciphertext: wrapped });
        return Uint8Array.from(Buffer.from(plaintext, "base64"));
      } catch (error) {
        // Not a ciphertext of this key. Other errors are temporary: a disabled version may be enabled again.
        if (error instanceof ErrorResponse && error.code === "INVALID_ARGUMENT") return undefined;
        throw error instanceof StoreUnavailable ? error : new StoreUnavailable("google kms decrypt", error);
      }
    },
  });
}

/**
 * Application Default Credentials that send https requests (tokens, impersonation) through `fetch`, so that our proxy settings apply:
 * the library itself only reads the environment variables. Plain HTTP goes directly to the metadata service.
 */
async function googleAuth(key: string, fetch: typeof globalThis.fetch): Promise<GoogleAuth> {
  // Loaded on demand.
  const { GoogleAuth, gaxios } = await import("google-auth-library");
  // With an agent, the library does not look for a proxy.
  const none = new Agent();
  const transporterOptions: NonNullable<AuthOptions>["transporterOptions"] = {
    agent: none,
    adapter: ({ agent, ...request }, send) => {
      // Another agent presents the client certificate of an X.509 federation, which a fetch cannot.
      if (agent !== none) return send({ ...request, agent });
      return send(request.url.protocol === "https:" ? { ...request, fetchImplementation: fetch } : request);
    },
  };
  // The package for Google's metadata service takes no options.
  gaxios.instance.defaults = transporterOptions;
  class Auth extends GoogleAuth {
    /** Also applies to the source of impersonated credentials, which the library creates without options. */
    override fromJSON(json: Parameters<GoogleAuth["fromJSON"]>[0], options?: AuthOptions) {
      const client = super.fromJSON(json, { ...options, transporterOptions });
      // The token exchange of a federation takes no options, either.
      const exchange: unknown = Reflect.get(client, "stsCredential");
      if (exchange instanceof Object) Reflect.set(exchange, "transporter", client.transporter);
      return client;
    }
  }
  // Without a project, the library would ask Google for one, which requires another permission.
  return new Auth({ scopes: [scope], projectId: key.split("/")[1] });
}
type AuthOptions = Parameters<GoogleAuth["fromJSON"]>[1];

/** The library has no timeout of its own. */
function before<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    work.then(resolve, reject);
  });
}

/** An error response from Google. */
class ErrorResponse extends Error {
  readonly status: number;
  /** https://cloud.google.com/apis/design/errors */
  readonly code: string;
  constructor(status: number, code: string) {
    super(`${status} ${code}`.trim());
    this.status = status;
    this.code = code;
  }
}
