import { randomUUID } from "node:crypto";
import {
  isFramingHeader,
  isIdentityHeader,
  isOverrideHeader,
  passesToServers,
} from "../config/header-names.ts";
import { namesSession, normalPath, pathFault, readProvenUpstreamPath } from "../config/paths.ts";
import type { Route } from "../model/route.ts";
import { forwardedAddress } from "../server/http/request.ts";
import type { Deny } from "./decision.ts";
import type { CheckRequest } from "./wire/decode.ts";

/** The content of the `Authorization` header: nothing, one well-formed bearer token, or something else. */
export type Presented =
  | { readonly kind: "none" }
  | { readonly kind: "bearer"; readonly token: string }
  | { readonly kind: "other" };

/** Shows whether a person or a program sent the request; also known for a request that is denied while it is read. */
export type Requester = Pick<RequestFacts, "requestId" | "method" | "headers" | "presented">;

/** A request as every later stage sees it: validated once, by `readRequestFacts`. */
export interface RequestFacts {
  /** Envoy's `x-request-id`, or a generated one: links the error body to the log. */
  readonly requestId: string;
  /** In lower case, with the port where the client sent one. */
  readonly host: string;
  /** Starts with `/`; no query, no dot segments, no encoded slashes; in `normalPath`'s form. */
  readonly path: string;
  /** The path as Envoy has it and selects its route by. */
  readonly sentPath: string;
  /** Without the `?`. */
  readonly query: string;
  readonly method: string;
  /** Names in lower case, without pseudo-headers; repeated headers are joined by a comma. No prototype. */
  readonly headers: Readonly<Record<string, string>>;
  /** The names of `headers`, in the order received. */
  readonly headerNames: readonly string[];
  /** Names of headers with non-ASCII values: no decision depends on these. */
  readonly opaque: readonly string[];
  readonly presented: Presented;
  readonly body?: Buffer;
  /** As in `PolicyInput`. */
  readonly bodyIsText: boolean;
  readonly sourceIp?: string;
  /** The `context_extensions` of Envoy's route. */
  readonly context: Readonly<Record<string, string>>;
  /** Whether Envoy's listener selects the route again after a check that sets `consentHeader`. */
  readonly reselects: () => boolean;
}

const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const hostName = /^(?:[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?\.?|\[[0-9a-f:.]+\])(?::\d{1,5})?$/;
const bearer = /^bearer +([A-Za-z0-9\-._~+/]+=*)$/i;
const printable = /^[\t -~]*$/;
/** RFC 9110 section 5.5: obsolete, but still sent (a city's name in UTF-8). */
const opaqueValue = /^[\t -~\x80-\xff]*$/;
/** Headers that decisions depend on: every reader must interpret them alike. */
const decisive =
  /^(?::.*|authorization|host|accept|content-(?:type|length|encoding)|transfer-encoding|mcp-(?!param-).*|sec-fetch-mode|x-forwarded-(?:for|host|proto))$/;
const requestIdShape = /^[A-Za-z0-9._-]{1,64}$/;
/** With a second value of these, another reader would see a different request. */
const singular = new Set([
  "authorization",
  "host",
  ":authority",
  ":path",
  ":method",
  ":scheme",
  "content-type",
  // A server that checks one of them could serve the session of another.
  "mcp-session-id",
]);

/**
 * Turns a CheckRequest into facts, or into a denial. Never throws.
 *
 * @param maxHeaderBytes limit for the sum of all header names and values.
 * @param trustedHops proxies in front of Envoy: Envoy reports the peer of its connection, which is the nearest of them.
 * @param reselects as in `RequestFacts`
 * @returns facts; or a denial with what could be read about the sender
 */
export function readRequestFacts(
  request: CheckRequest,
  maxHeaderBytes: number,
  trustedHops = 0,
  reselects: () => boolean = () => false,
): { readonly facts: RequestFacts } | { readonly denial: Deny; readonly requester: Requester } {
  const http = request.http ?? { method: "", path: "", host: "", headers: [] };
  const read = readHeaders(http.headers, maxHeaderBytes);
  const requestId = requestIdOf(read.headers["x-request-id"]);
  const method = http.method || (read.pseudo[":method"] ?? "");
  const presented = presentedBy(read.headers.authorization);
  const denied = (denial: Deny) => ({
    denial,
    requester: { requestId, method, headers: read.headers, presented },
  });
  if (!request.http) return denied(bad("malformed_check", "the check does not contain an HTTP request"));
  if (read.denial) return denied(read.denial);
  const { rawBody, textBody } = request.http;
  if (rawBody !== undefined && textBody !== undefined)
    return denied(bad("malformed_check", "the check contains two bodies"));

  if (!token.test(method)) return denied(bad("bad_method", "the request has no valid method"));
  if (method === "CONNECT" || method === "TRACE")
    return denied(bad("bad_method", `${method} is not served here`));

  const authority = read.pseudo[":authority"] ?? read.headers.host;
  const host = (http.host || authority || "").toLowerCase();
  if (host === "") return denied(bad("no_host", "the request does not name a host"));
  if (!hostName.test(host)) return denied(bad("bad_host", "the request's host is not a host name"));
  if (authority !== undefined && authority.toLowerCase() !== host) {
    return denied(bad("bad_host", "the request names two different hosts"));
  }

  const target = http.path || (read.pseudo[":path"] ?? "");
  const question = target.indexOf("?");
  const path = question < 0 ? target : target.slice(0, question);
  const query = question < 0 ? "" : target.slice(question + 1);
  const fault = pathFault(path);
  if (fault) return denied(bad("bad_path", fault));
  if (/[^!-~]/.test(query)) return denied(bad("bad_path", "the query has control or non-ASCII characters"));
  // Tokens in a query (RFC 6750 section 2.3) end up in logs; MCP forbids them.
  if (/(?:^|[&;])access_token(?:=|&|;|$)/i.test(decodedNames(query))) {
    return denied(
      bad("token_in_query", "access tokens belong in the Authorization header, not in the query"),
    );
  }

  return {
    facts: {
      requestId,
      host,
      path: normalPath(path),
      sentPath: path,
      query,
      method,
      headers: read.headers,
      headerNames: read.names,
      opaque: read.opaque,
      presented,
      body: rawBody ?? textBody,
      bodyIsText: textBody !== undefined,
      sourceIp:
        trustedHops === 0
          ? request.sourceIp
          : forwardedAddress(read.headers["x-forwarded-for"] ?? "", trustedHops),
      context: request.contextExtensions,
      reselects,
    },
  };
}

/** Headers by name, and the denial if they are invalid. */
function readHeaders(
  sent: readonly string[],
  maxBytes: number,
): {
  headers: Record<string, string>;
  names: string[];
  opaque: string[];
  pseudo: Record<string, string>;
  denial?: Deny;
} {
  const headers: Record<string, string> = Object.create(null);
  const names: string[] = [];
  const opaque: string[] = [];
  const pseudo: Record<string, string> = Object.create(null);
  let denial: Deny | undefined;
  let bytes = 0;
  for (let index = 0; index < sent.length; index += 2) {
    const { name, pseudo: isPseudo, valid } = headerName(sent[index] ?? "");
    const value = sent[index + 1] ?? "";
    const target = isPseudo ? pseudo : headers;
    bytes += name.length + value.length;
    const before = target[name];
    if (before !== undefined && singular.has(name)) {
      denial ??= bad("repeated_header", `the request has several ${name.replace(":", "")} headers`);
    }
    if (before === undefined && !isPseudo) names.push(name);
    if (!valid) denial ??= bad("bad_header", "a header name has invalid characters");
    // The name comes from the client but is a valid token by now; the value is never shown.
    else if (!printable.test(value)) {
      if (opaqueValue.test(value) && !decisive.test(name)) opaque.push(name);
      else
        denial ??= bad("bad_header", `the header ${name.slice(0, 64)} has control or non-ASCII characters`);
    }
    target[name] = before === undefined ? value : before + (name === "cookie" ? "; " : ",") + value;
  }
  if (bytes > maxBytes) {
    denial = deny(431, "headers_too_large", `the request's headers are longer than ${maxBytes} bytes`);
  }
  // In the plain encoding, Envoy joins repeated headers with commas; credentials never contain one.
  if (headers.authorization?.includes(",")) {
    denial ??= bad("repeated_header", "the request has several authorization values");
  }
  return { headers, names, opaque, pseudo, denial };
}

function presentedBy(authorization: string | undefined): Presented {
  if (authorization === undefined) return { kind: "none" };
  const match = bearer.exec(authorization.trim());
  return match?.[1] ? { kind: "bearer", token: match[1] } : { kind: "other" };
}

function requestIdOf(header: string | undefined): string {
  return header !== undefined && requestIdShape.test(header) ? header : randomUUID();
}

/** `%61ccess_token=` names the same parameter. */
function decodedNames(query: string): string {
  return query.includes("%")
    ? query.replace(/%([2-7][0-9a-f])/gi, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16)))
    : query;
}

function bad(code: string, message: string): Deny {
  return deny(400, code, message);
}

function deny(status: Deny["status"], code: string, message: string): Deny {
  return { kind: "deny", status, code, message, headers: [] };
}

/** Whether the response may be a legacy HTTP+SSE stream, which starts a session; Streamable HTTP names an existing session. */
export function mayBeLegacyStream({ method, headers }: RequestFacts): boolean {
  return method === "GET" && headers["mcp-session-id"] === undefined;
}

/** Whether a message may start a session (MCP 2025-03-26 to 2025-11-25): later revisions have none. */
export function mayStartSession({ method, headers }: RequestFacts): boolean {
  if (method !== "POST" || headers["mcp-session-id"] !== undefined) return false;
  return (headers["mcp-protocol-version"] ?? "") < "2026";
}

/**
 * Whether a request is a message of the legacy HTTP+SSE transport. Its URL was named by the stream's first event: outside `to`,
 * or with the session in its query. Streamable HTTP accepts event streams and names the session in a header.
 */
export function isLegacyPost({ method, path, query, headers }: RequestFacts, route: Route): boolean {
  if (method !== "POST" || headers["mcp-session-id"] !== undefined) return false;
  if (readProvenUpstreamPath(route, path) !== undefined) return true;
  return namesSession(query) && !/\btext\/event-stream\b/i.test(headers.accept ?? "");
}

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
  readonly controlsEnvoy: boolean;
}

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
    controlsEnvoy: name.startsWith("x-envoy-"),
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
