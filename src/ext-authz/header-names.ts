import {
  isFramingHeader,
  isIdentityHeader,
  isOverrideHeader,
  passesToServers,
} from "../config/header-names.ts";

/** What there is to know of a request header by its name alone. */
export interface HeaderName {
  /** In lower case. */
  readonly name: string;
  readonly pseudo: boolean;
  /** RFC 9110 section 5.6.2. */
  readonly valid: boolean;
  /** Claims an identity. */
  readonly identity: boolean;
  /** Names another request than the one that is judged. */
  readonly overrides: boolean;
  /** Goes to every MCP server. */
  readonly listed: boolean;
  /** Envoy's to keep or drop. */
  readonly framing: boolean;
  /** Would steer Envoy. */
  readonly envoys: boolean;
}

const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const known = new Map<string, HeaderName>();
const mostKnown = 4096;
const longestKnown = 64;

/** Looks a name up; the same few dozen come with every request, so that what is found out of one is remembered. */
export function headerName(sent: string): HeaderName {
  const before = known.get(sent);
  if (before !== undefined) return before;
  const name = sent.toLowerCase();
  const pseudo = name.startsWith(":");
  const found = {
    name,
    pseudo,
    valid: pseudo || token.test(name),
    identity: isIdentityHeader(name),
    overrides: isOverrideHeader(name),
    listed: passesToServers(name),
    framing: isFramingHeader(name),
    envoys: name.startsWith("x-envoy-"),
  };
  if (sent.length <= longestKnown) {
    // Only somebody who invents names gets here; he pays for it with the look-ups of one request.
    if (known.size >= mostKnown) known.clear();
    // A copy: the name at hand may be a slice of a whole message, which it would keep in memory.
    known.set(copy(sent), { ...found, name: copy(name) });
  }
  return found;
}

function copy(text: string): string {
  return Buffer.from(text, "latin1").toString("latin1");
}
