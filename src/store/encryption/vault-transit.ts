import { readFile } from "node:fs/promises";
import { z } from "zod";
import { StoreMisconfigured, StoreUnavailable } from "../errors.ts";
import { type KeyEncryptionKeys, keyServiceKeys } from "./key-encryption-keys.ts";

/** A key of HashiCorp Vault's (or OpenBao's) transit engine. */
export interface VaultTransitKey {
  /** Names the key in stored rows, with its version: `kid/v3`. */
  readonly kid: string;
  readonly vault: {
    /** `https://vault.example.com:8200`; plain http to this machine only (Vault Agent). */
    readonly address: string;
    /** Name of the transit key. */
    readonly key: string;
    /** Where the engine is mounted. */
    readonly mount: string;
    readonly namespace?: string;
    /** Variable, or file (Vault Agent's sink), that holds the token; a file is read again when Vault refuses the token. */
    readonly token: { readonly env: string } | { readonly file: string };
  };
}

const timeoutMs = 2_000;

const keyAnswer = z.object({ data: z.object({ latest_version: z.int() }) });
const dataKeyAnswer = z.object({ data: z.object({ plaintext: z.string(), ciphertext: z.string() }) });
const decryptAnswer = z.object({ data: z.object({ plaintext: z.string() }) });

/**
 * Key-encryption keys that never leave Vault: every ciphertext has a data key of its own, made by Vault and stored wrapped
 * beside it. After `vault write -f transit/keys/NAME/rotate` new rows use the new version; `rotate-keys` rewrites the others.
 * @param deps.fetch for addresses that the operator chose
 * @throws StoreMisconfigured when Vault does not have the key or refuses the token; StoreUnavailable when it does not answer
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
      `encryption.keys "${kid}".vault.token: nothing in ${where}`,
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

  /** Undefined: Vault says that the request is wrong (400, 404); it is asked in vain again. */
  async function ask<T>(
    schema: z.ZodType<T>,
    method: string,
    path: string,
    body?: object,
  ): Promise<T | undefined> {
    let answer = await send(method, path, body);
    if (answer.status === 403) {
      // An agent renews the token behind our back.
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
      throw new StoreUnavailable(`vault ${path}`, new Error(`Vault answered ${answer.status}`));
    }
    const parsed = schema.safeParse(await answer.json().catch(() => undefined));
    if (parsed.success) return parsed.data;
    throw new StoreUnavailable(
      `vault ${path}`,
      new Error("Vault's answer is not what its documentation says"),
    );
  }

  const name = encodeURIComponent(vault.key);
  const found = await ask(keyAnswer, "GET", `keys/${name}`);
  if (!found) {
    throw new StoreMisconfigured(
      "encryption_key_missing",
      `encryption.keys "${kid}": Vault at ${vault.address} has no key ${vault.mount}/${vault.key}; make it with: vault write -f ${vault.mount}/keys/${vault.key}`,
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
        throw new StoreUnavailable("vault datakey", new Error("Vault makes no data key"));
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
