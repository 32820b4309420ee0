import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { listen } from "../../dev/demo/listen.ts";

/**
 * A local key service with the part of Google Cloud KMS's REST API that envelope encryption needs
 * (https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys): encrypt and decrypt with additional
 * authenticated data, versions, Google's error bodies; and the token exchange of workload identity federation in front of it.
 */
export interface LocalGoogleKms {
  readonly url: string;
  readonly key: string;
  /** Application Default Credentials for this service: an `external_account` file. */
  readonly credentials: string;
  rotate(): void;
  /** Like `gcloud kms keys versions disable`. */
  disable(version: number): void;
  failing: number | undefined;
  readonly requests: string[];
  close(): Promise<void>;
}

/** @param folder directory for the credentials */
export async function startLocalGoogleKms(folder: string): Promise<LocalGoogleKms> {
  const key = "projects/p/locations/europe-west3/keyRings/r/cryptoKeys/mcp";
  const versions = [randomBytes(32)];
  const disabled = new Set<number>();
  const requests: string[] = [];
  const subjectToken = randomBytes(24).toString("hex");
  const accessToken = `ya29.${randomBytes(24).toString("hex")}`;

  function encrypt(plaintext: Buffer, data: Buffer): string {
    const iv = randomBytes(12);
    const cipher = createCipheriv("aes-256-gcm", versions.at(-1) ?? "", iv).setAAD(data);
    const head = Buffer.from([versions.length]);
    return Buffer.concat([head, iv, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]).toString(
      "base64",
    );
  }
  function decrypt(blob: Buffer, data: Buffer): Buffer | "INVALID_ARGUMENT" | "FAILED_PRECONDITION" {
    const version = blob[0] ?? 0;
    const material = versions[version - 1];
    if (!material) return "INVALID_ARGUMENT";
    if (disabled.has(version)) return "FAILED_PRECONDITION";
    try {
      const decipher = createDecipheriv("aes-256-gcm", material, blob.subarray(1, 13)).setAAD(data);
      decipher.setAuthTag(blob.subarray(-16));
      return Buffer.concat([decipher.update(blob.subarray(13, -16)), decipher.final()]);
    } catch {
      return "INVALID_ARGUMENT";
    }
  }
  const refusal = (code: number, status: string): [number, object] => [
    code,
    { error: { code, message: `it is ${status}`, status } },
  ];

  function answer(path: string, body: Record<string, string>): [number, object] {
    const bytes = (name: string) => Buffer.from(body[name] ?? "", "base64");
    const data = bytes("additionalAuthenticatedData");
    if (path === `/v1/${key}:encrypt`) {
      const name = `${key}/cryptoKeyVersions/${versions.length}`;
      return [200, { name, ciphertext: encrypt(bytes("plaintext"), data), protectionLevel: "SOFTWARE" }];
    }
    if (path === `/v1/${key}:decrypt`) {
      const plaintext = decrypt(bytes("ciphertext"), data);
      return typeof plaintext === "string"
        ? refusal(400, plaintext)
        : [200, { plaintext: plaintext.toString("base64"), usedPrimary: true }];
    }
    return refusal(404, "NOT_FOUND");
  }

  /** RFC 8693, like Google's Security Token Service. */
  function exchange(form: URLSearchParams): [number, object] {
    const good =
      form.get("grant_type") === "urn:ietf:params:oauth:grant-type:token-exchange" &&
      form.get("subject_token") === subjectToken &&
      form.get("scope")?.includes("https://www.googleapis.com/auth/cloudkms");
    if (!good) return [400, { error: "invalid_grant" }];
    const issued = "urn:ietf:params:oauth:token-type:access_token";
    return [
      200,
      { access_token: accessToken, issued_token_type: issued, token_type: "Bearer", expires_in: 3600 },
    ];
  }

  const { url, close } = await listen(async (request, response) => {
    const body = await text(request);
    const { url: path = "", headers } = request;
    const [status, json] =
      path === "/v1/token"
        ? exchange(new URLSearchParams(body))
        : kms.failing
          ? refusal(kms.failing, "UNAVAILABLE")
          : headers.authorization === `Bearer ${accessToken}`
            ? answer(path, JSON.parse(body))
            : refusal(401, "UNAUTHENTICATED");
    requests.push(path.split(":").at(-1) ?? "");
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(json));
  });
  const credentials = join(folder, "google.json");
  await writeFile(join(folder, "subject-token"), subjectToken);
  const adc = {
    type: "external_account",
    audience: "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/k8s",
    subject_token_type: "urn:ietf:params:oauth:token-type:jwt",
    token_url: `${url}/v1/token`,
    credential_source: { file: join(folder, "subject-token") },
  };
  await writeFile(credentials, JSON.stringify(adc));
  const kms: LocalGoogleKms = {
    url,
    key,
    credentials,
    rotate: () => void versions.push(randomBytes(32)),
    disable: (version) => void disabled.add(version),
    failing: undefined,
    requests,
    close,
  };
  return kms;
}
