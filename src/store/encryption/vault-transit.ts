import { readFile } from "node:fs/promises";
import { z } from "zod";
import { StoreMisconfigured, StoreUnavailable } from "../errors.ts";
import { type KeyEncryptionKeys, keyServiceKeys } from "./encryption.ts";

/** A key of the transit engine of HashiCorp Vault or OpenBao. */
export interface VaultTransitKey {
  /** Names the key in stored rows, with its version: `kid/v3`. */
  readonly kid: string;
  readonly vault: {
    /** `https://vault.example.com:8200`; plain HTTP to this machine only (Vault Agent). */
    readonly address: string;
    /** Name of the transit key. */
    readonly key: string;
    /** Where the engine is mounted. */
    readonly mount: string;
    readonly namespace?: string;
    /** Variable or file (Vault Agent's sink) with the token; a file is read again if Vault rejects the token. */
    readonly token: { readonly env: string } | { readonly file: string };
  };
}

const timeoutMs = 2_000;

const keyAnswer = z.object({ data: z.object({ latest_version: z.int() }) });
const dataKeyAnswer = z.object({ data: z.object({ plaintext: z.string(), ciphertext: z.string() }) });
const decryptAnswer = z.object({ data: z.object({ plaintext: z.string() }) });

/**
 * Key-encryption keys that never leave Vault: each ciphertext has its own data key, created by Vault and stored wrapped with the
 * ciphertext. After `vault write -f transit/keys/NAME/rotate`, new rows use the new version; `rotate-keys` rewrites the others.
 * @param deps.fetch for trusted URLs, configured by the operator
 * @throws StoreMisconfigured if Vault does not have the key or rejects the token; StoreUnavailable if it does not answer
 */
export async function vaultTransitKeys(
  source: VaultTransitKey,
  deps: {
    readonly fetch: typeof globalThis.fetch;
    readonly env: Readonly<Record<string, string | undefined>>;
  },
): Promise<KeyEncryptionKeys> {
  const { kid, vault } = source;
  let token = await readToken();

  async function readToken(): Promise<string> {
    const found =
      "env" in vault.token
        ? deps.env[vault.token.env]
        : await readFile(vault.token.file, "utf8").catch(() => undefined);
    if (found?.trim()) return found.trim();
    const where = "env" in vault.token ? `the variable ${vault.token.env}` : vault.token.file;
    throw new StoreMisconfigured(
      "encryption_key_missing",
      `encryption.keys "${kid}".vault.token: ${where} is empty or missing`,
    );
  }

  async function send(method: string, path: string, body?: object): Promise<Response> {
    try {
      return await deps.fetch(`${vault.address}/v1/${vault.mount}/${path}`, {
        method,
        headers: {
          "x-vault-token": token,
          "x-vault-request": "true",
          ...(vault.namespace && { "x-vault-namespace": vault.namespace }),
          ...(body && { "content-type": "application/json" }),
        },
        body: body && JSON.stringify(body),
        signal: AbortSignal.timeout(timeoutMs),
      });
    } catch (error) {
      throw new StoreUnavailable(`vault ${path}`, error);
    }
  }

  /** Undefined: Vault rejects the request (400, 404), and a retry does not help. */
  async function ask<T>(
    schema: z.ZodType<T>,
    method: string,
    path: string,
    body?: object,
  ): Promise<T | undefined> {
    let answer = await send(method, path, body);
    if (answer.status === 403) {
      // Vault Agent may have renewed the token.
      await answer.body?.cancel();
      token = await readToken();
      answer = await send(method, path, body);
    }
    if (answer.status === 400 || answer.status === 404) {
      await answer.body?.cancel();
      return undefined;
    }
    if (!answer.ok) {
      await answer.body?.cancel();
      throw new StoreUnavailable(`vault ${path}`, new Error(`Vault returned ${answer.status}`));
    }
    const parsed = schema.safeParse(await answer.json().catch(() => undefined));
    if (parsed.success) return parsed.data;
    throw new StoreUnavailable(`vault ${path}`, new Error("unexpected response from Vault"));
  }

  const name = encodeURIComponent(vault.key);
  const found = await ask(keyAnswer, "GET", `keys/${name}`);
  if (!found) {
    throw new StoreMisconfigured(
      "encryption_key_missing",
      `encryption.keys "${kid}": Vault at ${vault.address} has no key ${vault.mount}/${vault.key}; create it with: vault write -f ${vault.mount}/keys/${vault.key}`,
    );
  }
  let newest = `${kid}/v${found.data.latest_version}`;

  return keyServiceKeys({
    owns: (ofRow) => ofRow.startsWith(`${kid}/v`),
    newest: () => newest,
    async make() {
      const made = await ask(dataKeyAnswer, "POST", `datakey/plaintext/${name}`, { bits: 256 });
      const version = /^vault:v(\d+):/.exec(made?.data.ciphertext ?? "")?.[1];
      if (!made || !version)
        throw new StoreUnavailable("vault datakey", new Error("Vault cannot create a data key"));
      newest = `${kid}/v${version}`;
      const { plaintext, ciphertext: wrapped } = made.data;
      return { kid: newest, key: Uint8Array.from(Buffer.from(plaintext, "base64")), wrapped };
    },
    async unwrap(wrapped) {
      const opened = await ask(decryptAnswer, "POST", `decrypt/${name}`, { ciphertext: wrapped });
      return opened && Uint8Array.from(Buffer.from(opened.data.plaintext, "base64"));
    },
  });
}
