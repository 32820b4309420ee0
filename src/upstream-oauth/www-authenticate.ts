import type { ConsentAuth } from "../model/route.ts";

/** No more than so many scopes, and none longer, is asked for because an upstream says so. */
const maxCount = 100;
const maxLength = 256;

/** What an upstream may have said: scope tokens (RFC 6749 section 3.3), bounded in number and length. */
export function readableScopes(scopes: readonly string[], most = maxCount): string[] {
  const fit = new Set<string>();
  for (const scope of scopes) {
    if (fit.size >= most) break;
    if (scope.length <= maxLength && /^[\x21\x23-\x5b\x5d-\x7e]+$/.test(scope)) fit.add(scope);
  }
  return [...fit];
}

/** Those that the operator allows to be asked for: with `max_scopes` no others than these and `scopes`. */
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
  /** It names metadata by something that is not a URL, even relative to the upstream's. */
  readonly unreadableMetadata?: true;
  /** It takes DPoP-bound tokens only: no Bearer challenge stands beside. */
  readonly dpopOnly?: true;
}

interface Challenge {
  /** Lower case. */
  readonly scheme: string;
  /** Names in lower case; of a repeated one the first. */
  readonly parameters: Map<string, string>;
}

/** Longer ones are as good as none. Characters; all `WWW-Authenticate` headers of an answer together. */
const longestChallenge = 8192;

/** A word that follows an unquoted value is a part of it, unless it is one of these. */
const schemes = new Set(["basic", "bearer", "digest", "dpop", "hoba", "mutual", "negotiate", "ntlm"]);

/**
 * The Bearer (or DPoP) challenge among an answer's `WWW-Authenticate` headers, as servers write it: several schemes and headers,
 * any case, values without quotes or in the wrong ones, commas missing or left over.
 *
 * @param base what a relative `resource_metadata` is relative to: the URL that was asked
 * @returns undefined where there is no such challenge
 */
export function parseChallenge(wwwAuthenticate: string | null, base?: string): UpstreamChallenge | undefined {
  if (!wwwAuthenticate || wwwAuthenticate.length > longestChallenge) return undefined;
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

/** One pass over the text: each step goes on behind what it has read. */
function readChallenges(text: string): Challenge[] {
  const found: Challenge[] = [];
  // A header that begins with a parameter is a Bearer challenge whose scheme was forgotten.
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
  /** The parameter whose value had no quotes, while nothing but spaces has followed it. */
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

/** A value that begins at `start`: quoted either way, up to the end where the quote is never closed; else one word. */
function readValue(text: string, start: number): { text: string; end: number; quoted: boolean } {
  // Quotes that were escaped as if inside of another text.
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
    // An apostrophe closes a text only where the text could end.
    if (character === quote && (quote === '"' || /^[\s,;]?$/.test(text[index + 1] ?? ""))) break;
    if (character === "\\") {
      const next = text[index + 1] ?? "";
      if (next === quote && wasEscaped) break;
      // RFC 9110 section 5.6.4: whatever is escaped stands for itself.
      value += next;
      index++;
    } else value += character;
  }
  return { text: value, end: text[index] === "\\" ? index + 2 : index + 1, quoted: true };
}
