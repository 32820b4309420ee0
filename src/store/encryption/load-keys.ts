import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { systemCode, systemReason, thisUser } from "../../util/unusable-setting.ts";
import { makeDataFolder } from "../embedded/data-folder.ts";
import { StoreMisconfigured } from "../errors.ts";
import { type AwsKmsKey, awsKmsKeys, type ProxyEnvironment } from "./aws-kms.ts";
import { combineKeyEncryptionKeys, type KeyEncryptionKeys, localKeyEncryptionKeys } from "./encryption.ts";
import { type GoogleKmsKey, googleKmsKeys } from "./google-kms.ts";
import { type VaultTransitKey, vaultTransitKeys } from "./vault-transit.ts";

/** An entry of the routes file's `encryption.keys`. */
type LocalSource =
  | { readonly kid: string; readonly env: string }
  | { readonly kid: string; readonly file: string };
type KeySource = LocalSource | VaultTransitKey | AwsKmsKey | GoogleKmsKey;

const howToMake =
  "create one with: node -e 'console.log(crypto.getRandomValues(Buffer.alloc(32)).toString(\"base64url\"))'";
const embeddedKid = "embedded";

/**
 * Loads the configured keys, newest first: 32 bytes (base64 or base64url), or a key service.
 * @param options.embeddedDir directory of the embedded database, absent with Postgres. Without a configured key, a key is generated
 * and stored there in `encryption-key` (0600). It still decrypts older rows after keys are configured.
 * @param options.fetch for key services, whose URLs are trusted because the operator configures them
 * @param options.proxyEnv the proxy for key services with their own HTTP client library
 * @throws StoreMisconfigured `encryption_key_missing`, `encryption_key_invalid`, `database_dir_unusable`; the message names the field and the fix
 * @throws StoreUnavailable if a key service does not answer
 */
export async function loadKeyEncryptionKeys(
  sources: readonly KeySource[],
  options: {
    env: Readonly<Record<string, string | undefined>>;
    embeddedDir?: string;
    fetch?: typeof globalThis.fetch;
    proxyEnv?: ProxyEnvironment;
  },
): Promise<KeyEncryptionKeys> {
  const loaded: KeyEncryptionKeys[] = [];
  const kids = new Set<string>();
  for (const [index, source] of sources.entries()) {
    const field = `encryption.keys[${index}]`;
    const { kid } = source;
    if (kids.has(kid)) throw invalid(`${field}.kid: "${kid}" is used twice; each key needs a unique name`);
    kids.add(kid);
    if ("awsKms" in source) loaded.push(await awsKmsKeys(source, options.proxyEnv));
    else if ("vault" in source || "googleKms" in source) {
      const { fetch, env } = options;
      if (!fetch) throw invalid(`${field}: key services are not supported here`);
      loaded.push(
        await ("vault" in source
          ? vaultTransitKeys(source, { fetch, env })
          : googleKmsKeys(source, { fetch })),
      );
    } else {
      const bytes = decode(field, await readSource(field, source, options.env));
      loaded.push(await localKeyEncryptionKeys([{ kid, bytes }]));
    }
  }
  if (options.embeddedDir !== undefined) {
    await makeDataFolder(options.embeddedDir);
    const path = join(options.embeddedDir, "encryption-key");
    const text = sources.length === 0 ? await ensureKeyFile(path) : await readIfPresent(path);
    if (text !== undefined && !kids.has(embeddedKid))
      loaded.push(await localKeyEncryptionKeys([{ kid: embeddedKid, bytes: decode(path, text) }]));
  }
  const [newest, ...older] = loaded;
  if (newest === undefined)
    throw new StoreMisconfigured(
      "encryption_key_missing",
      `encryption.keys: Postgres requires a key, the same on every replica, for example [{kid: k1, env: ENCRYPTION_KEY}]; ${howToMake}`,
    );
  return older.length === 0 ? newest : combineKeyEncryptionKeys(newest, ...older);
}

const invalid = (message: string, cause?: unknown) =>
  new StoreMisconfigured("encryption_key_invalid", message, cause);

async function readSource(
  field: string,
  source: LocalSource,
  env: Readonly<Record<string, string | undefined>>,
): Promise<string> {
  if ("env" in source) {
    const value = env[source.env];
    if (value) return value;
    throw new StoreMisconfigured(
      "encryption_key_missing",
      `${field}.env: the environment variable ${source.env} is not set; ${howToMake}`,
    );
  }
  try {
    return await readFile(source.file, "utf8");
  } catch (error) {
    throw new StoreMisconfigured(
      "encryption_key_missing",
      `${field}.file: cannot read ${source.file}: ${systemReason(error)}; ${systemCode(error) === "ENOENT" ? howToMake : `make it a file that ${thisUser()} can read`}`,
      error,
    );
  }
}

function decode(field: string, text: string): Uint8Array {
  const trimmed = text.trim();
  const bytes = /^[\w+/-]+=*$/.test(trimmed) ? Buffer.from(trimmed, "base64url") : Buffer.alloc(0);
  if (bytes.length === 32) return bytes;
  throw invalid(`${field}: not 32 bytes in base64url; ${howToMake}`);
}

async function readIfPresent(path: string): Promise<string | undefined> {
  let file: Awaited<ReturnType<typeof open>>;
  try {
    // A user who may write to the directory must not choose the key with a symbolic link.
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    if (error instanceof Error && "code" in error && error.code === "ELOOP")
      throw invalid(`${path} is a symbolic link; replace it with the key file itself`);
    throw invalid(
      `database.dir: cannot read ${path}: ${systemReason(error)}; make it readable for ${thisUser()}, and for no other`,
      error,
    );
  }
  try {
    const { mode, uid } = await file.stat();
    if (mode & 0o007)
      throw invalid(`${path} is readable by all users; run chmod o= on it, and rotate the key`);
    const us = process.getuid?.();
    if (us !== undefined && uid !== us && uid !== 0)
      throw invalid(
        `${path} belongs to another user (${uid}), who may have chosen the key; chown it to this process's user (${us})`,
      );
    return await file.readFile("utf8");
  } finally {
    await file.close();
  }
}

async function ensureKeyFile(path: string): Promise<string> {
  const present = await readIfPresent(path);
  if (present !== undefined) return present;
  const text = randomBytes(32).toString("base64url");
  const file = await open(path, "wx", 0o600);
  try {
    await file.writeFile(`${text}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  return text;
}
