import { randomBytes } from "node:crypto";
import { z } from "zod";
import type { KeyEncryptionKeys } from "./key-encryption-keys.ts";
import { keyServiceKeys } from "./key-service-keys.ts";
import { StoreMisconfigured } from "./store-misconfigured.ts";
import { StoreUnavailable } from "./store-unavailable.ts";

/** A symmetric key of Google Cloud KMS. */
export interface GoogleKmsKey {
  /** Names the key in stored rows, with its version: `kid/v3`. */
  readonly kid: string;
  readonly googleKms: {
    /** `projects/P/locations/L/keyRings/R/cryptoKeys/K`. */
    readonly key: string;
    /** Another address than Google's. */
    readonly endpoint?: string;
  };
}

const timeoutMs = 2_000;
const scope = "https://www.googleapis.com/auth/cloudkms";
/** Additional authenticated data: tells it from what others encrypt with the same key. */
const additionalAuthenticatedData = Buffer.from("envoy-mcp-auth").toString("base64");

const encryptAnswer = z.object({ name: z.string(), ciphertext: z.string() });
const decryptAnswer = z.object({ plaintext: z.string() });
const errorAnswer = z.object({ error: z.object({ status: z.string() }) });

/**
 * Key-encryption keys that never leave Google Cloud KMS, which wraps a data key of ours for each row and unwraps it when the row
 * is first read (https://cloud.google.com/kms/docs/envelope-encryption). Credentials are Google's Application Default
 * Credentials. After a rotation new rows use the new primary version; `rotate-keys` rewrites the others.
 * @param deps.fetch for addresses that the operator chose
 * @throws StoreMisconfigured when Google does not know the key or refuses us; StoreUnavailable when it does not answer
 */
export async function googleKmsKeys(
  { kid, googleKms }: GoogleKmsKey,
  deps: { readonly fetch: typeof globalThis.fetch },
): Promise<KeyEncryptionKeys> {
  // Loaded only where it is used.
  const { GoogleAuth } = await import("google-auth-library");
  // The project is said because the library would ask Google for one otherwise, which takes a permission more.
  const projectId = googleKms.key.split("/")[1];
  const auth = new GoogleAuth({ scopes: [scope], projectId });
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
      throw new Refused(response.status, data?.error.status ?? "");
    } catch (error) {
      throw error instanceof Refused ? error : new StoreUnavailable(operation, error);
    }
  }

  async function make() {
    const key = Uint8Array.from(randomBytes(32));
    const plaintext = Buffer.from(key).toString("base64");
    const { name, ciphertext: wrapped } = await ask(encryptAnswer, "encrypt", { plaintext });
    const version = /\/cryptoKeyVersions\/(\d+)$/.exec(name)?.[1];
    if (!version) throw new StoreUnavailable("google kms encrypt", new Error(`a key of the name ${name}`));
    newest = `${kid}/v${version}`;
    return { kid: newest, key, wrapped };
  }

  let newest = "";
  try {
    await make();
  } catch (error) {
    if (!(error instanceof Refused) || error.status >= 500 || error.status === 429)
      throw error instanceof StoreUnavailable ? error : new StoreUnavailable("google kms", error);
    throw new StoreMisconfigured(
      "encryption_key_missing",
      `encryption.keys "${kid}": Google Cloud KMS does not encrypt with ${googleKms.key} (${error.message}); it must be a symmetric key with a primary version that is enabled, and this process' credentials need roles/cloudkms.cryptoKeyEncrypterDecrypter on it`,
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
        // Not a ciphertext of this key; a version that is disabled may be enabled again.
        if (error instanceof Refused && error.code === "INVALID_ARGUMENT") return undefined;
        throw error instanceof StoreUnavailable ? error : new StoreUnavailable("google kms decrypt", error);
      }
    },
  });
}

/** The library tries for as long as it likes. */
function before<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    work.then(resolve, reject);
  });
}

/** An answer of Google's that says no. */
class Refused extends Error {
  readonly status: number;
  /** https://cloud.google.com/apis/design/errors */
  readonly code: string;
  constructor(status: number, code: string) {
    super(`${status} ${code}`.trim());
    this.status = status;
    this.code = code;
  }
}
