import { errors } from "oidc-provider";
import { longestClientName, mostRedirectUris, redirectUriFault } from "../config/redirect-uri-fault.ts";

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
  // A code in a fragment or a form is not found by a client that looks for it in its query: it stays in the page, good for whoever
  // began the request with a challenge of their own.
  metadata.response_modes = ["query"];
  // Scopes belong to routes, not to us; which ones a client may have is asked at each authorization.
  delete metadata.scope;
  delete metadata.sector_identifier_uri;
  if (typeof name === "string") metadata.client_name = plainText(name) || undefined;
  if (typeof name === "string" && name.length > longestClientName) {
    throw new errors.InvalidClientMetadata(
      `client_name must not be longer than ${longestClientName} characters`,
    );
  }
  if (isMetadataDocument(metadata) && metadata.token_endpoint_auth_method === "client_secret_basic") {
    // The default for a document that says nothing; one that asks for a shared secret was refused already.
    metadata.token_endpoint_auth_method = "none";
  }
  if (!isStrings(redirectUris)) return;
  const fault =
    redirectUris.length > mostRedirectUris
      ? `must not be more than ${mostRedirectUris}`
      : redirectUris.map(redirectUriFault).find((one) => one !== undefined);
  if (fault !== undefined) throw new errors.InvalidClientMetadata(`redirect_uris ${fault}`);
  if (redirectUris.some((uri) => URL.parse(uri)?.protocol !== "https:")) metadata.application_type = "native";
}

function isMetadataDocument(metadata: Record<string, unknown>): boolean {
  return typeof metadata.client_id === "string" && metadata.client_id.startsWith("https://");
}

/**
 * A name without what bends the text around it or is not seen: control and format characters (bidirectional overrides,
 * zero-width spaces, tags), line breaks, and heaps of combining marks.
 */
function plainText(name: string): string {
  const visible = name
    .replaceAll(/[\p{Z}\s]+/gu, " ")
    .replaceAll(/[\p{C}\p{Default_Ignorable_Code_Point}]/gu, "");
  return visible.replaceAll(/(\p{M}{3})\p{M}+/gu, "$1").trim();
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
