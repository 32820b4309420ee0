import type { ConsentAuth } from "../model/route.ts";

/** Limits on the number and the length of scopes that an upstream names. */
const maxCount = 100;
const maxLength = 256;

/** Valid scope tokens that an upstream names (RFC 6749 section 3.3), limited in number and length. */
export function readableScopes(scopes: readonly string[], max = maxCount): string[] {
  const fit = new Set<string>();
  for (const scope of scopes) {
    if (fit.size >= max) break;
    if (scope.length <= maxLength && /^[\x21\x23-\x5b\x5d-\x7e]+$/.test(scope)) fit.add(scope);
  }
  return [...fit];
}

/** The scopes that the operator allows: with `max_scopes`, only these and `scopes`. */
export function allowedScopes(auth: ConsentAuth, scopes: readonly string[]): string[] {
  const { maxScopes } = auth;
  if (maxScopes === undefined) return readableScopes(scopes);
  const ceiling = new Set([...maxScopes, ...(auth.scopes ?? [])]);
  return readableScopes(scopes).filter((scope) => ceiling.has(scope));
}

/** What an upstream's `WWW-Authenticate` asks for (RFC 6750 section 3, RFC 9728 section 5.1, RFC 9449 section 7.1). */
export interface UpstreamChallenge {
  readonly error?: string;
  readonly scopes: readonly string[];
  /** Absolute URL, else absent. */
  readonly resourceMetadata?: string;
  /** `resource_metadata` is not a URL, not even a relative one. */
  readonly unreadableMetadata?: true;
  /** Only DPoP-bound tokens are accepted: there is no Bearer challenge. */
  readonly dpopOnly?: true;
}

interface Challenge {
  /** Lower case. */
  readonly scheme: string;
  /** Names in lower case; the first of repeated ones. */
  readonly parameters: Map<string, string>;
}

/** Longer challenges are ignored. Characters of all `WWW-Authenticate` headers of a response. */
const maxChallengeLength = 8192;

/** A word after an unquoted value is part of it, unless it is one of these. */
const schemes = new Set(["basic", "bearer", "digest", "dpop", "hoba", "mutual", "negotiate", "ntlm"]);

/**
 * Finds the Bearer (or DPoP) challenge in a response's `WWW-Authenticate` headers. Lenient: several schemes and headers, any case, missing
 * or wrong quotes, missing or extra commas.
 *
 * @param base base URL of a relative `resource_metadata`: the requested URL
 * @returns undefined if there is no such challenge
 */
export function parseChallenge(wwwAuthenticate: string | null, base?: string): UpstreamChallenge | undefined {
  if (!wwwAuthenticate || wwwAuthenticate.length > maxChallengeLength) return undefined;
  const challenges = readChallenges(wwwAuthenticate).filter(
    ({ scheme }) => scheme === "bearer" || scheme === "dpop",
  );
  const { parameters } =
    challenges.find((one) => one.parameters.get("resource_metadata")) ?? challenges[0] ?? {};
  if (!parameters) return undefined;
  const named = parameters.get("resource_metadata");
  const resourceMetadata = named === undefined ? undefined : readUrl(named, base);
  return {
    error: parameters.get("error") || undefined,
    scopes: readableScopes(
      parameters
        .get("scope")
        ?.split(/[\s,]+/)
        .filter(Boolean) ?? [],
    ),
    resourceMetadata,
    unreadableMetadata: (named !== undefined && resourceMetadata === undefined) || undefined,
    dpopOnly: challenges.every(({ scheme }) => scheme === "dpop") || undefined,
  };
}

function readUrl(text: string, base: string | undefined): string | undefined {
  const bare = text.trim().replace(/^<(.*)>$/, "$1");
  return bare === "" ? undefined : URL.parse(bare, base)?.href;
}

/** Reads the text in one pass. */
function readChallenges(text: string): Challenge[] {
  const found: Challenge[] = [];
  // A header that starts with a parameter is a Bearer challenge without its scheme.
  let current: Challenge | undefined;
  const challenge = () => {
    current ??= begin("bearer");
    return current.parameters;
  };
  const begin = (scheme: string): Challenge => {
    const made = { scheme, parameters: new Map<string, string>() };
    found.push(made);
    return made;
  };
  /** The parameter whose unquoted value may continue, while only spaces have followed it. */
  let open: string | undefined;
  const at = /[\s,;]*/y;
  const word = /[^\s,;="']+/y;
  const equals = /\s*=\s*/y;
  let index = 0;
  const take = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = index;
    const match = pattern.exec(text);
    if (match) index = pattern.lastIndex;
    return match?.[0];
  };
  while (index < text.length) {
    if (/[,;]/.test(take(at) ?? "")) open = undefined;
    const name = take(word)?.toLowerCase();
    if (name === undefined) {
      // A stray quote or equals sign.
      index++;
      continue;
    }
    if (take(equals) === undefined) {
      const before = open === undefined ? undefined : current?.parameters.get(open);
      if (open !== undefined && before !== undefined && !schemes.has(name)) {
        current?.parameters.set(open, `${before} ${text.slice(index - name.length, index)}`);
      } else {
        current = begin(name.replace(/:$/, ""));
        open = undefined;
      }
      continue;
    }
    const value = readValue(text, index);
    index = value.end;
    const parameters = challenge();
    const isNew = !parameters.has(name);
    if (isNew) parameters.set(name, value.text);
    open = isNew && !value.quoted ? name : undefined;
  }
  return found;
}

/** A value that starts at `start`: quoted with either kind, up to the end if the quote is not closed; else one word. */
function readValue(text: string, start: number): { text: string; end: number; quoted: boolean } {
  // Quotes may be escaped, as if inside another string.
  const opening = /\\*(["'])/y;
  opening.lastIndex = start;
  const quote = opening.exec(text)?.[1];
  if (quote === undefined) {
    const bare = /[^\s,;]*/y;
    bare.lastIndex = start;
    const value = bare.exec(text)?.[0] ?? "";
    return { text: value, end: start + value.length, quoted: false };
  }
  const wasEscaped = text[start] === "\\";
  let value = "";
  let index = opening.lastIndex;
  for (; index < text.length; index++) {
    const character = text[index] ?? "";
    // An apostrophe closes the value only if the value could end there.
    if (character === quote && (quote === '"' || /^[\s,;]?$/.test(text[index + 1] ?? ""))) break;
    if (character === "\\") {
      const next = text[index + 1] ?? "";
      if (next === quote && wasEscaped) break;
      // RFC 9110 section 5.6.4: an escaped character is literal.
      value += next;
      index++;
    } else value += character;
  }
  return { text: value, end: text[index] === "\\" ? index + 2 : index + 1, quoted: true };
}
