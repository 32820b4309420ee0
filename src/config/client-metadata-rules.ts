import type { z } from "zod";
import type { ClientAuthMethod } from "../model/route.ts";

/** Redirect URIs per client. */
export const maxRedirectUris = 20;
/** Length of a client name, in characters. */
export const maxClientNameLength = 200;
const maxUriLength = 2000;
const loopback = new Set(["localhost", "127.0.0.1", "[::1]"]);
const forbidden = new Set(["javascript:", "vbscript:", "data:", "blob:", "file:", "about:"]);

/**
 * Why a redirect URI is invalid for registered, fetched and configured clients; undefined if it is valid: an absolute URI without a
 * fragment (RFC 6749 section 3.1.2), private schemes of apps included.
 */
export function redirectUriFault(uri: string): string | undefined {
  if (uri.length > maxUriLength) return `must not be longer than ${maxUriLength} characters`;
  const url = URL.parse(uri);
  if (url === null || uri.includes("#")) return "must be absolute and without a fragment";
  if (url.protocol === "http:" && !loopback.has(url.hostname))
    return "must use https, a loopback address (RFC 8252 section 7.3) or an app's own scheme";
  if (forbidden.has(url.protocol)) return `must not use ${url.protocol}`;
  if (url.username !== "" || url.password !== "") return "must not contain user information";
  return undefined;
}

/** JWS algorithms of asymmetric keys (RFC 7518, RFC 8037, RFC 9864): allowed for `private_key_jwt`. */
export const clientSigningAlgs = [
  "ES256",
  "ES384",
  "ES512",
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
  "EdDSA",
  "Ed25519",
] as const;

/** Credentials of the gateway as a client at a token endpoint, as written. */
interface ClientProof {
  readonly client_secret?: string | undefined;
  readonly private_key?: string | undefined;
  readonly signing_alg?: string | undefined;
  readonly auth_style?: ClientAuthMethod | undefined;
}

/** Reports contradictions in client credentials. Without `auth_style`, the credentials determine the method. */
export function checkClientProof(
  proof: ClientProof,
  issues: z.RefinementCtx,
  styleAt: readonly string[] = ["auth_style"],
): void {
  const { client_secret: secret, private_key: key, auth_style: style } = proof;
  const reject = (path: readonly string[], message: string, fix: string) =>
    issues.addIssue({ code: "custom", path: [...path], message, params: { fix } });
  const bySecret = style === "client_secret_basic" || style === "client_secret_post";
  if (bySecret && secret === undefined)
    reject(styleAt, `${style} needs a client_secret`, "add client_secret, or write none for a public client");
  if (style !== undefined && !bySecret && secret !== undefined)
    reject(
      ["client_secret"],
      `auth_style ${style} does not use it`,
      "remove client_secret, or write auth_style: client_secret_basic or client_secret_post",
    );
  if (style !== undefined && style !== "private_key_jwt" && key !== undefined)
    reject(
      ["private_key"],
      `auth_style ${style} does not use it`,
      "remove private_key, or write auth_style: private_key_jwt",
    );
  if (proof.signing_alg !== undefined && key === undefined)
    reject(
      ["signing_alg"],
      "it is the algorithm of a private_key, and there is none: the gateway's own key signs with ES256",
      "add private_key, or remove signing_alg",
    );
}
