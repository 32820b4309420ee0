import { Agent } from "node:https";
import { StoreMisconfigured, StoreUnavailable } from "../errors.ts";
import { type KeyEncryptionKeys, keyServiceKeys } from "./key-encryption-keys.ts";

/** A symmetric key of AWS KMS. */
export interface AwsKmsKey {
  /** Names the key in stored rows; AWS' own rotation goes on behind it. */
  readonly kid: string;
  readonly awsKms: {
    /** ARN or id of the key, or of an alias (`alias/mcp`). */
    readonly key: string;
    /** Default: the ARN's, else `AWS_REGION`. */
    readonly region?: string;
    /** Another address than AWS', as a VPC endpoint's. */
    readonly endpoint?: string;
  };
}

/** As Node's `proxyEnv` takes it. */
export interface ProxyEnvironment {
  readonly HTTPS_PROXY: string;
  readonly NO_PROXY: string;
}

const timeoutMs = 2_000;
/** What AWS says of a ciphertext that this key did not make. */
const notOurs = new Set(["InvalidCiphertextException", "IncorrectKeyException", "NotFoundException"]);
/** What trying again does not mend. */
const wrong = new Set([
  "AccessDeniedException",
  "NotFoundException",
  "InvalidArnException",
  "InvalidKeyUsageException",
  "DisabledException",
  "KMSInvalidStateException",
  "UnrecognizedClientException",
  "InvalidSignatureException",
  "IncompleteSignatureException",
  "MissingAuthenticationTokenException",
  "ExpiredTokenException",
  "CredentialsProviderError",
  "ValidationException",
]);

/**
 * Key-encryption keys that never leave AWS KMS: `GenerateDataKey` for each row, `Decrypt` when one is first read. Credentials
 * come as AWS' SDK finds them (variables, shared files, a role of the pod, task or machine).
 * @param proxyEnv the proxy to reach it through, which Node's agent knows how to
 * @throws StoreMisconfigured when AWS does not know the key or refuses us; StoreUnavailable when it does not answer
 */
export async function awsKmsKeys(
  { kid, awsKms }: AwsKmsKey,
  proxyEnv?: ProxyEnvironment,
): Promise<KeyEncryptionKeys> {
  // Loaded only where it is used: it is large.
  const { DecryptCommand, GenerateDataKeyCommand, KMSClient } = await import("@aws-sdk/client-kms");
  const region = awsKms.region ?? /^arn:[^:]+:kms:([^:]+):/.exec(awsKms.key)?.[1];
  const client = new KMSClient({
    ...(region && { region }),
    ...(awsKms.endpoint && { endpoint: awsKms.endpoint }),
    maxAttempts: 2,
    requestHandler: {
      requestTimeout: timeoutMs,
      connectionTimeout: timeoutMs,
      throwOnRequestTimeout: true,
      ...(proxyEnv && { httpsAgent: new Agent({ keepAlive: true, proxyEnv: { ...proxyEnv } }) }),
    },
  });
  // Tells it from what others encrypt with the same key; part of what AWS authenticates and logs.
  const EncryptionContext = { application: "envoy-mcp-auth" };

  async function make() {
    const request = new GenerateDataKeyCommand({ KeyId: awsKms.key, KeySpec: "AES_256", EncryptionContext });
    const { Plaintext, CiphertextBlob } = await client.send(request);
    if (!Plaintext || !CiphertextBlob) throw new Error("AWS KMS' answer is not what its documentation says");
    const wrapped = Buffer.from(CiphertextBlob).toString("base64");
    return { kid, key: Uint8Array.from(Plaintext), wrapped };
  }

  try {
    await make();
  } catch (error) {
    if (!wrong.has(nameOf(error))) throw new StoreUnavailable("aws kms", error);
    throw new StoreMisconfigured(
      "encryption_key_missing",
      `encryption.keys "${kid}": AWS KMS makes no data key with ${awsKms.key} (${nameOf(error)}); it must be a symmetric key that is enabled, and this process' AWS credentials must allow kms:GenerateDataKey and kms:Decrypt with it`,
      error,
    );
  }

  return keyServiceKeys({
    owns: (name) => name === kid,
    newest: () => kid,
    make: () =>
      make().catch((error: unknown) => {
        throw new StoreUnavailable("aws kms GenerateDataKey", error);
      }),
    async unwrap(wrapped) {
      const CiphertextBlob = Uint8Array.from(Buffer.from(wrapped, "base64"));
      try {
        const request = new DecryptCommand({ KeyId: awsKms.key, CiphertextBlob, EncryptionContext });
        const { Plaintext } = await client.send(request);
        return Plaintext && Uint8Array.from(Plaintext);
      } catch (error) {
        if (notOurs.has(nameOf(error))) return undefined;
        throw new StoreUnavailable("aws kms Decrypt", error);
      }
    },
  });
}

function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : "unknown";
}
