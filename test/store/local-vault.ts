import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { text } from "node:stream/consumers";
import { listen } from "../../dev/demo/listen.ts";

/**
 * A local key service with the part of HashiCorp Vault's HTTP API that users of its transit engine need
 * (https://developer.hashicorp.com/vault/api-docs/secret/transit): read a key, create a data key, decrypt, rotate; tokens,
 * namespaces, Vault's status codes and error bodies.
 */
export interface LocalVault {
  readonly url: string;
  token: string;
  /** Like `vault write -f transit/keys/NAME/rotate`. */
  rotate(): void;
  /** Like `min_decryption_version`. */
  forgetBefore(version: number): void;
  /** Responds with 503, like a sealed Vault. */
  sealed: boolean;
  readonly requests: string[];
  close(): Promise<void>;
}

export async function startLocalVault(options: { key: string; namespace?: string }): Promise<LocalVault> {
  const versions = [randomBytes(32)];
  let minimum = 1;
  const requests: string[] = [];

  function wrap(plaintext: Buffer): string {
    const iv = randomBytes(12);
    const cipher = createCipheriv("aes-256-gcm", versions.at(-1) ?? "", iv);
    const body = Buffer.concat([iv, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
    return `vault:v${versions.length}:${body.toString("base64")}`;
  }
  function unwrap(ciphertext: string): Buffer {
    const [, version, body] = /^vault:v(\d+):(.+)$/.exec(ciphertext) ?? [];
    const key = versions[Number(version) - 1];
    if (!key || !body) throw new Error("invalid ciphertext: no prefix");
    if (Number(version) < minimum)
      throw new Error("ciphertext or signature version is disallowed by policy (too old)");
    const bytes = Buffer.from(body, "base64");
    const decipher = createDecipheriv("aes-256-gcm", key, bytes.subarray(0, 12));
    decipher.setAuthTag(bytes.subarray(-16));
    return Buffer.concat([decipher.update(bytes.subarray(12, -16)), decipher.final()]);
  }

  function answer(method: string, path: string, body: Record<string, unknown>): [number, object] {
    if (vault.sealed) return [503, { errors: ["Vault is sealed"] }];
    switch (`${method} ${path}`) {
      case `GET /v1/transit/keys/${options.key}`:
        return [200, { data: { name: options.key, type: "aes256-gcm96", latest_version: versions.length } }];
      case `POST /v1/transit/datakey/plaintext/${options.key}`: {
        const key = randomBytes(Number(body.bits ?? 256) / 8);
        return [
          200,
          {
            data: {
              plaintext: key.toString("base64"),
              ciphertext: wrap(key),
              key_version: versions.length,
            },
          },
        ];
      }
      case `POST /v1/transit/decrypt/${options.key}`:
        try {
          return [200, { data: { plaintext: unwrap(String(body.ciphertext)).toString("base64") } }];
        } catch (error) {
          return [400, { errors: [String(error)] }];
        }
      default:
        return [404, { errors: [] }];
    }
  }

  const { url, close } = await listen(async (request, response) => {
    const body = await text(request);
    requests.push(`${request.method} ${request.url}`);
    const namespace = request.headers["x-vault-namespace"];
    const allowed =
      request.headers["x-vault-token"] === vault.token &&
      namespace === options.namespace &&
      request.headers["x-vault-request"] === "true";
    const [status, json] = allowed
      ? answer(request.method ?? "", request.url ?? "", body ? JSON.parse(body) : {})
      : [403, { errors: ["permission denied"] }];
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(json));
  });
  const vault: LocalVault = {
    url,
    token: `hvs.${randomBytes(12).toString("base64url")}`,
    rotate: () => void versions.push(randomBytes(32)),
    forgetBefore(version) {
      minimum = version;
    },
    sealed: false,
    requests,
    close,
  };
  return vault;
}
