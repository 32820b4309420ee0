import type { AuthorizationServer } from "oauth4webapi";
import { flagOf, textOf, textsOf } from "./read-members.ts";

type Json = Readonly<Record<string, unknown>>;

/** Members that are a URL, beside those whose names end so. */
const links = new Set(["jwks_uri", "service_documentation", "op_policy_uri", "op_tos_uri"]);
/** Without these there is no flow: one that is no URL is a fault to name, not a member to pass over. */
const required = new Set(["authorization_endpoint", "token_endpoint"]);
/** Whatever is not a list of these exact words is no support for PKCE: nothing is read into it. */
const strictList = "code_challenge_methods_supported";

/**
 * Authorization server metadata (RFC 8414 section 2) as servers write it: of what is optional and descriptive, null, "" and a
 * value of another type count as absent, and a list may be written as text. `issuer` and `code_challenge_methods_supported` are
 * read as they are.
 *
 * @returns undefined without an `issuer`
 */
export function readServerMetadata(json: Json): AuthorizationServer | undefined {
  const { issuer } = json;
  if (typeof issuer !== "string" || issuer === "") return undefined;
  const read: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(json)) {
    const kept = readMember(name, value);
    if (kept !== undefined) read[name] = kept;
  }
  return { ...read, issuer };
}

function readMember(name: string, value: unknown): unknown {
  if (name === strictList) return Array.isArray(value) ? value.filter(isString) : undefined;
  if (name.endsWith("_supported")) return readSupported(value);
  if (required.has(name)) return addressOf(value);
  if (name.endsWith("_endpoint") || links.has(name)) return readUrl(value);
  return value ?? undefined;
}

/** A flag, or a list; an empty list says as little as none. */
function readSupported(value: unknown): boolean | string[] | undefined {
  return flagOf(value) ?? textsOf(value);
}

/** Where people and credentials are sent: a text, and nothing that stands for one. */
function addressOf(value: unknown): string | undefined {
  return typeof value === "string" ? textOf(value) : undefined;
}

function readUrl(value: unknown): string | undefined {
  const text = addressOf(value);
  return text !== undefined && URL.canParse(text) ? text : undefined;
}

function isString(value: unknown): value is string {
  return typeof value === "string";
}
