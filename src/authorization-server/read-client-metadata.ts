/** Members that decide what a client may do, or how it authenticates: they stay as they came, for the rules to accept or refuse. */
const strict = new Set(["client_id", "redirect_uris", "jwks_uri", "jwks", "token_endpoint_auth_signing_alg"]);
/** Members that hold a secret; null is none. */
const secrets = new Set(["client_secret", "client_secret_expires_at"]);
const texts = new Set(["software_id", "software_version"]);
const links = new Set(["client_uri", "logo_uri", "tos_uri", "policy_uri"]);
const lists = new Set(["grant_types", "response_types"]);
/** What oidc-provider takes for one. */
const emailAddress = /^[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)*$/;

/**
 * What a client says of itself (RFC 7591 section 2, or a Client ID Metadata Document), as far as it means anything here. In
 * descriptive members null, "" and an empty list are as good as absent, a list may come as text and the other way round, and what
 * is not understood is left out, as section 2 allows. Never so: redirect URIs, keys, and how the client authenticates.
 *
 * @param of `registration`: an authentication method of null or "" is the default, which has a secret. `document`: it stays, and is
 * refused; a document that does not name one is a public client's.
 */
export function readClientMetadata(
  given: Readonly<Record<string, unknown>>,
  of: "registration" | "document",
): Record<string, unknown> {
  const read: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(given)) {
    const meant = readMember(name, value, of);
    if (meant !== undefined) read[name] = meant;
  }
  // Only an assertion is signed; a client that sends none may name an algorithm all the same.
  if (read.token_endpoint_auth_method !== "private_key_jwt") delete read.token_endpoint_auth_signing_alg;
  return read;
}

function readMember(name: string, value: unknown, of: "registration" | "document"): unknown {
  if (name === "redirect_uris" || name === "client_id") return value;
  if (name === "token_endpoint_auth_method")
    return of === "registration" && isEmpty(value) ? undefined : value;
  if (isEmpty(value)) return undefined;
  if (strict.has(name)) return value;
  // A registration's secret is ours to make; one in a document is refused.
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

/** A value of another type stays what it is: the rules name it. */
function text(value: unknown): unknown {
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  if (Array.isArray(value) && value.every((entry) => typeof entry === "string")) return value.join(" ");
  return value;
}

/** Nothing is fetched from these, nor shown: one that is not usable is left out. */
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
