import { Agent } from "node:https";
import { StoreMisconfigured, StoreUnavailable } from "../errors.ts";
import { type KeyEncryptionKeys, keyServiceKeys } from "./encryption.ts";

/** A symmetric key of AWS KMS. */
export interface AwsKmsKey {
  /** Names the key in stored rows; does not change with AWS's own key rotation. */
  readonly kid: string;
  readonly awsKms: {
    /** ARN or id of the key, or of an alias (`alias/mcp`). */
    readonly key: string;
    /** Default: the ARN's region, else `AWS_REGION`. */
    readonly region?: string;
    /** Custom endpoint, for example a VPC endpoint. */
    readonly endpoint?: string;
  };
}

/** The format of Node's `proxyEnv`. */
export interface ProxyEnvironment {
  readonly HTTPS_PROXY: string;
  readonly NO_PROXY: string;
}

const timeoutMs = 2_000;
/** AWS's errors for a ciphertext of another key, or something that is not a ciphertext: rows may be forged. */
const notOurs = new Set([
  "InvalidCiphertextException",
  "IncorrectKeyException",
  "NotFoundException",
  "ValidationException",
]);
/** Errors that a retry does not fix. */
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
 * Key-encryption keys that never leave AWS KMS: `GenerateDataKey` for each row, `Decrypt` when a row is first read. The AWS SDK
 * finds the credentials (variables, shared files, a role of the pod, task or machine).
 * @param proxyEnv the proxy to use, for Node's agent
 * @throws StoreMisconfigured if AWS does not know the key or denies access; StoreUnavailable if it does not answer
 */
export async function awsKmsKeys(
  { kid, awsKms }: AwsKmsKey,
  proxyEnv?: ProxyEnvironment,
): Promise<KeyEncryptionKeys> {
  // Loaded on demand, because it is large.
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
  // Distinguishes it from other uses of the same key; AWS authenticates and logs it.
  const EncryptionContext = { application: "envoy-mcp-auth" };

  async function make() {
    const request = new GenerateDataKeyCommand({ KeyId: awsKms.key, KeySpec: "AES_256", EncryptionContext });
    const { Plaintext, CiphertextBlob } = await client.send(request);
    if (!Plaintext || !CiphertextBlob) throw new Error("unexpected response from AWS KMS");
    const wrapped = Buffer.from(CiphertextBlob).toString("base64");
    return { kid, key: Uint8Array.from(Plaintext), wrapped };
  }

  try {
    await make();
  } catch (error) {
    if (!wrong.has(nameOf(error))) throw new StoreUnavailable("aws kms", error);
    throw new StoreMisconfigured(
      "encryption_key_missing",
      `encryption.keys "${kid}": AWS KMS cannot create a data key with ${awsKms.key} (${nameOf(error)}); it must be an enabled symmetric key, and the AWS credentials of this process must allow kms:GenerateDataKey and kms:Decrypt with it`,
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
