import {
  isFramingHeader,
  isIdentityHeader,
  isOverrideHeader,
  passesToServers,
} from "../config/header-names.ts";

/** The properties of a request header that follow from its name. */
export interface HeaderName {
  /** In lower case. */
  readonly name: string;
  readonly pseudo: boolean;
  /** RFC 9110 section 5.6.2. */
  readonly valid: boolean;
  /** Claims an identity. */
  readonly identity: boolean;
  /** Names a different request than the one that is checked. */
  readonly overrides: boolean;
  /** Passed to every MCP server. */
  readonly listed: boolean;
  /** Handled by Envoy. */
  readonly framing: boolean;
  /** Would control Envoy. */
  readonly envoys: boolean;
}

const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const known = new Map<string, HeaderName>();
const maxKnown = 4096;
const maxKnownLength = 64;

/** Looks a name up. The result is cached: the same few dozen names come with every request. */
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
  if (sent.length <= maxKnownLength) {
    // Only a client that invents names gets here; clearing costs no more than one request's look-ups.
    if (known.size >= maxKnown) known.clear();
    // A copy: the name may be a slice of a whole message and would keep it in memory.
    known.set(copy(sent), { ...found, name: copy(name) });
  }
  return found;
}

function copy(text: string): string {
  return Buffer.from(text, "latin1").toString("latin1");
}
