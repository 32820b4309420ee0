import { createCipheriv, createDecipheriv, createHash, createHmac, randomBytes } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import { listen } from "../../dev/demo/listen.ts";

/**
 * A local key service with the part of AWS KMS that envelope encryption needs: AWS JSON 1.1, GenerateDataKey and Decrypt
 * with encryption context, requests signed by Signature Version 4, AWS' error names
 * (https://docs.aws.amazon.com/kms/latest/APIReference/).
 */
export interface LocalAwsKms {
  readonly url: string;
  readonly arn: string;
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string };
  /** Like the yearly rotation: new key material, while the old material still decrypts. */
  rotate(): void;
  enabled: boolean;
  /** Responds with this instead. */
  failing: { readonly status: number; readonly name: string } | undefined;
  /** Operation of each request with a valid signature. */
  readonly requests: string[];
  close(): Promise<void>;
}

type Json = { readonly [name: string]: unknown };
const region = "eu-central-1";

export async function startLocalAwsKms(): Promise<LocalAwsKms> {
  const arn = `arn:aws:kms:${region}:111122223333:key/${crypto.randomUUID()}`;
  const credentials = { accessKeyId: "AKIALOCAL", secretAccessKey: randomBytes(30).toString("base64") };
  const material = [randomBytes(32)];
  const requests: string[] = [];

  const additional = (context: unknown) => Buffer.from(JSON.stringify([arn, context ?? {}]));
  function wrap(plaintext: Buffer, context: unknown): Buffer {
    const iv = randomBytes(12);
    const cipher = createCipheriv("aes-256-gcm", material.at(-1) ?? "", iv).setAAD(additional(context));
    const head = Buffer.from([1, material.length]);
    return Buffer.concat([head, iv, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
  }
  function unwrap(blob: Buffer, context: unknown): Buffer | undefined {
    const key = material[(blob[1] ?? 0) - 1];
    if (blob[0] !== 1 || !key) return undefined;
    try {
      const decipher = createDecipheriv("aes-256-gcm", key, blob.subarray(2, 14)).setAAD(additional(context));
      decipher.setAuthTag(blob.subarray(-16));
      return Buffer.concat([decipher.update(blob.subarray(14, -16)), decipher.final()]);
    } catch {
      return undefined;
    }
  }

  function answer(operation: string, body: Json): Json | string {
    if (body.KeyId !== arn && body.KeyId !== "alias/mcp") return "NotFoundException";
    if (!kms.enabled) return "DisabledException";
    switch (operation) {
      case "GenerateDataKey": {
        if (body.KeySpec !== "AES_256") return "ValidationException";
        const key = randomBytes(32);
        const blob = wrap(key, body.EncryptionContext);
        return { KeyId: arn, Plaintext: key.toString("base64"), CiphertextBlob: blob.toString("base64") };
      }
      case "Decrypt": {
        const blob = Buffer.from(String(body.CiphertextBlob), "base64");
        if (blob.length === 0 || blob.length > 6144) return "ValidationException";
        const plaintext = unwrap(blob, body.EncryptionContext);
        if (!plaintext) return "InvalidCiphertextException";
        return {
          KeyId: arn,
          EncryptionAlgorithm: "SYMMETRIC_DEFAULT",
          Plaintext: plaintext.toString("base64"),
        };
      }
      default:
        return "UnknownOperationException";
    }
  }

  const { url, close } = await listen(async (request, response) => {
    const body = await text(request);
    const operation = /^TrentService\.(\w+)$/.exec(String(request.headers["x-amz-target"]))?.[1] ?? "";
    let status = 200;
    let result = kms.failing ? kms.failing.name : unsigned(request, body, credentials);
    if (result === undefined) {
      requests.push(operation);
      const answered = answer(operation, JSON.parse(body));
      if (typeof answered === "object") {
        response
          .writeHead(200, { "content-type": "application/x-amz-json-1.1" })
          .end(JSON.stringify(answered));
        return;
      }
      result = answered;
    }
    status = kms.failing?.status ?? 400;
    const error = { __type: result, message: `${operation}: ${result}` };
    response.writeHead(status, { "content-type": "application/x-amz-json-1.1" }).end(JSON.stringify(error));
  });
  const kms: LocalAwsKms = {
    url,
    arn,
    credentials,
    rotate: () => void material.push(randomBytes(32)),
    enabled: true,
    failing: undefined,
    requests,
    close,
  };
  return kms;
}

/** The error for an invalid request signature (Signature Version 4), in AWS's words. */
function unsigned(
  request: IncomingMessage,
  body: string,
  { accessKeyId, secretAccessKey }: LocalAwsKms["credentials"],
): string | undefined {
  const { authorization = "" } = request.headers;
  const [, key, day, place, names = "", signature] =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/kms\/aws4_request, ?SignedHeaders=([^,]+), ?Signature=(\w+)$/.exec(
      authorization,
    ) ?? [];
  if (!key) return "MissingAuthenticationTokenException";
  if (key !== accessKeyId) return "UnrecognizedClientException";
  const sha256 = (value: string) => createHash("sha256").update(value).digest("hex");
  const signed = names.split(";").map((name) => `${name}:${String(request.headers[name]).trim()}\n`);
  const canonical = [request.method, request.url, "", signed.join(""), names, sha256(body)].join("\n");
  const at = String(request.headers["x-amz-date"]);
  const toSign = ["AWS4-HMAC-SHA256", at, `${day}/${place}/kms/aws4_request`, sha256(canonical)].join("\n");
  const hmac = (secret: string | Buffer, value: string) =>
    createHmac("sha256", secret).update(value).digest();
  const signing = [day, place, "kms", "aws4_request"].reduce<string | Buffer>(
    (secret, part) => hmac(secret, part ?? ""),
    `AWS4${secretAccessKey}`,
  );
  const good = hmac(signing, toSign).toString("hex") === signature && place === region;
  return good && names.split(";").includes("host") ? undefined : "InvalidSignatureException";
}
