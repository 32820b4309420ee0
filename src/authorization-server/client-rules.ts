import { errors } from "oidc-provider";
import { maxClientNameLength, maxRedirectUris, redirectUriFault } from "../config/client-metadata-rules.ts";
import type { Config } from "../config/config.ts";
import { plainText } from "../util/plain-text.ts";

/**
 * Reduces a client's metadata (registered, fetched or configured) to what we support, before oidc-provider validates it. RFC
 * 7591 section 2 lets a server replace values: unknown grant types are dropped instead of rejected, because some clients list
 * every grant type they can use. Native apps are recognized by their redirect URI, because few declare themselves (RFC 8252).
 * @throws errors.InvalidClientMetadata
 */
export function applyClientMetadataRules(metadata: Record<string, unknown>): void {
  const { redirect_uris: redirectUris, client_name: name } = metadata;
  metadata.grant_types = supported(metadata.grant_types, ["authorization_code", "refresh_token"]);
  metadata.response_types = supported(metadata.response_types, ["code"]);
  // A client that expects the code in the query does not find one in a fragment or a form. It stays in the page, where an attacker
  // who started the request with their own code challenge can redeem it.
  metadata.response_modes = ["query"];
  // Scopes belong to routes and are decided at each authorization.
  delete metadata.scope;
  delete metadata.sector_identifier_uri;
  if (typeof name === "string") metadata.client_name = plainText(name) || undefined;
  if (typeof name === "string" && name.length > maxClientNameLength) {
    throw new errors.InvalidClientMetadata(
      `client_name must not be longer than ${maxClientNameLength} characters`,
    );
  }
  if (isMetadataDocument(metadata) && metadata.token_endpoint_auth_method === "client_secret_basic") {
    // oidc-provider's default for a document without a method; documents that ask for a shared secret were rejected earlier.
    metadata.token_endpoint_auth_method = "none";
  }
  if (!isStrings(redirectUris)) return;
  const fault =
    redirectUris.length > maxRedirectUris
      ? `must not be more than ${maxRedirectUris}`
      : redirectUris.map(redirectUriFault).find((one) => one !== undefined);
  if (fault !== undefined) throw new errors.InvalidClientMetadata(`redirect_uris ${fault}`);
  if (redirectUris.some((uri) => URL.parse(uri)?.protocol !== "https:")) metadata.application_type = "native";
}

function isMetadataDocument(metadata: Record<string, unknown>): boolean {
  return typeof metadata.client_id === "string" && metadata.client_id.startsWith("https://");
}

/** The known values of a list. oidc-provider rejects values of other types. */
function supported(given: unknown, known: readonly string[]): unknown {
  if (!isStrings(given)) return given;
  const kept = given.filter((value) => known.includes(value));
  return kept.length > 0 ? kept : given;
}

function isStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((entry) => typeof entry === "string");
}

const maxClientIdLength = 512;

/**
 * Why a URL may not be a client_id, as a sentence without the final period; undefined if it may. It must be https, with a path, on
 * an allowed host. Host patterns: `app.example.com`, or `*.example.com` for every name below it; without patterns, any host.
 */
export function clientIdFault(
  clientId: string,
  {
    clientIdMetadataDocument: enabled,
    allowedClientIdDomains: domains,
  }: Pick<Config["authorizationServer"], "clientIdMetadataDocument" | "allowedClientIdDomains">,
): string | undefined {
  if (!enabled) return "this gateway does not accept Client ID Metadata Documents";
  const url = URL.parse(clientId);
  const usable = url?.protocol === "https:" && url.pathname !== "/" && url.hash === "" && url.username === "";
  if (!usable || clientId.length > maxClientIdLength)
    return `the URL cannot be a client_id: it must be https, with a path, and no longer than ${maxClientIdLength} characters`;
  const allowed =
    domains.length === 0 ||
    domains.some((domain) =>
      domain.startsWith("*.") ? url.hostname.endsWith(domain.slice(1)) : url.hostname === domain,
    );
  return allowed
    ? undefined
    : `this gateway does not accept applications published by ${url.host}: the host is not on its allow list`;
}

/** Who vouches for a client: `known`: an operator; `document`: the host in its id; `registered`: only the client itself. */
export function clientSource(config: Config, clientId: string): "document" | "registered" | "known" {
  if (config.authorizationServer.clients.some((client) => client.clientId === clientId)) return "known";
  return clientId.startsWith("https://") ? "document" : "registered";
}

const loopback = new Set(["localhost", "127.0.0.1", "[::1]"]);

/** Whether answers to this redirect URI stay on the user's computer (RFC 8252 section 7.3). */
export function isLoopbackRedirect({ protocol, hostname }: URL): boolean {
  return protocol === "http:" && loopback.has(hostname);
}

/** Members that decide what a client may do or how it authenticates: passed on unchanged, to be validated strictly. */
const strict = new Set(["client_id", "redirect_uris", "jwks_uri", "jwks", "token_endpoint_auth_signing_alg"]);
/** Members that hold a secret. */
const secrets = new Set(["client_secret", "client_secret_expires_at"]);
const texts = new Set(["software_id", "software_version"]);
const links = new Set(["client_uri", "logo_uri", "tos_uri", "policy_uri"]);
const lists = new Set(["grant_types", "response_types"]);
/** oidc-provider's own pattern. */
const emailAddress = /^[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)*$/;

/**
 * Normalizes client metadata (RFC 7591 section 2, or a Client ID Metadata Document). In descriptive members null, "" and an empty
 * list count as absent, lists and text are converted into each other, and unknown values are left out, as section 2 allows.
 * Redirect URIs, keys and authentication methods are never changed.
 *
 * @param of `registration`: an authentication method of null or "" means the default, which has a secret. `document`: such a value is
 * rejected; a document without the member describes a public client.
 */
export function readClientMetadata(
  given: Readonly<Record<string, unknown>>,
  of: "registration" | "document",
): Record<string, unknown> {
  const read: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(given)) {
    const normalized = readMember(name, value, of);
    if (normalized !== undefined) read[name] = normalized;
  }
  // The algorithm applies to private_key_jwt only, but other clients name one, too.
  if (read.token_endpoint_auth_method !== "private_key_jwt") delete read.token_endpoint_auth_signing_alg;
  return read;
}

function readMember(name: string, value: unknown, of: "registration" | "document"): unknown {
  if (name === "redirect_uris" || name === "client_id") return value;
  if (name === "token_endpoint_auth_method")
    return of === "registration" && isEmpty(value) ? undefined : value;
  if (isEmpty(value)) return undefined;
  if (strict.has(name)) return value;
  // On registration, the secret is ours to generate; a secret in a document is rejected.
  if (secrets.has(name)) return of === "document" ? value : undefined;
  if (name === "client_name") return text(value);
  if (texts.has(name)) return typeof text(value) === "string" ? text(value) : undefined;
  if (links.has(name)) return link(value, of);
  if (lists.has(name)) return list(value, name === "response_types" ? /,/ : /[\s,]+/);
  if (name === "contacts") return list(value, /[\s,]+/, emailAddress);
  if (name === "application_type")
    return ["web", "native"].find((type) => type === String(value).toLowerCase());
  return undefined;
}

function isEmpty(value: unknown): boolean {
  return (
    value === null ||
    value === undefined ||
    (typeof value === "string" && value.trim() === "") ||
    (Array.isArray(value) && value.every(isEmpty))
  );
}

/** A value of another type is unchanged, so that validation reports it. */
function text(value: unknown): unknown {
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  if (Array.isArray(value) && value.every((entry) => typeof entry === "string")) return value.join(" ");
  return value;
}

/** Links are neither fetched nor shown: unusable ones are left out. */
function link(value: unknown, of: "registration" | "document"): string | undefined {
  const url = typeof value === "string" ? URL.parse(value) : null;
  if (url?.protocol !== "https:" && !(url?.protocol === "http:" && of === "registration")) return undefined;
  return typeof value === "string" ? value.trim() : undefined;
}

function list(value: unknown, separator: RegExp, of = /./): string[] | undefined {
  const entries = typeof value === "string" ? value.split(separator) : Array.isArray(value) ? value : [];
  const kept = entries.flatMap((entry: unknown) =>
    typeof entry === "string" && of.test(entry.trim()) ? [entry.trim()] : [],
  );
  return kept.length > 0 ? kept : undefined;
}
