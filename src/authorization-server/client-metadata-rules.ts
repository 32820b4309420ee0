import { errors } from "oidc-provider";

const loopback = new Set(["localhost", "127.0.0.1", "[::1]"]);
const longestName = 200;
const mostRedirectUris = 20;
const longestRedirectUri = 2000;

/**
 * Brings a client's metadata (registered, fetched or configured) to what we support, before oidc-provider validates them. RFC
 * 7591 section 2 lets a server replace values: grant types we do not know are dropped rather than refused, since some clients
 * list every one they can use. Native apps are recognised by where they listen, since few say what they are (RFC 8252).
 * @throws errors.InvalidClientMetadata
 */
export function applyClientMetadataRules(metadata: Record<string, unknown>): void {
  const { redirect_uris: redirectUris, client_name: name } = metadata;
  metadata.grant_types = supported(metadata.grant_types, ["authorization_code", "refresh_token"]);
  metadata.response_types = supported(metadata.response_types, ["code"]);
  // Scopes belong to routes, not to us; which ones a client may have is asked at each authorization.
  delete metadata.scope;
  delete metadata.sector_identifier_uri;
  if (name !== undefined && typeof name === "string" && name.length > longestName) {
    throw new errors.InvalidClientMetadata(`client_name must not be longer than ${longestName} characters`);
  }
  if (isMetadataDocument(metadata) && metadata.token_endpoint_auth_method === "client_secret_basic") {
    // The default for a document that says nothing; one that asks for a shared secret was refused already.
    metadata.token_endpoint_auth_method = "none";
  }
  if (!isStrings(redirectUris)) return;
  if (redirectUris.length > mostRedirectUris || redirectUris.some((uri) => uri.length > longestRedirectUri)) {
    throw new errors.InvalidClientMetadata("redirect_uris are too many or too long");
  }
  const parsed = redirectUris.map((uri) => URL.parse(uri)).filter((url) => url !== null);
  if (parsed.some((url) => url.protocol === "http:" && !loopback.has(url.hostname))) {
    throw new errors.InvalidClientMetadata(
      "redirect_uris must use https, a loopback address (RFC 8252 section 7.3) or an app's own scheme",
    );
  }
  if (parsed.some((url) => url.username !== "" || url.password !== "")) {
    throw new errors.InvalidClientMetadata("redirect_uris must not contain user information");
  }
  if (parsed.some((url) => url.protocol !== "https:")) metadata.application_type = "native";
}

function isMetadataDocument(metadata: Record<string, unknown>): boolean {
  return typeof metadata.client_id === "string" && metadata.client_id.startsWith("https://");
}

/** What is left of a list; a value of another type is oidc-provider's to refuse. */
function supported(given: unknown, known: readonly string[]): unknown {
  if (!isStrings(given)) return given;
  const kept = given.filter((value) => known.includes(value));
  return kept.length > 0 ? kept : given;
}

function isStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((entry) => typeof entry === "string");
}
