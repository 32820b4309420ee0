import { randomUUID } from "node:crypto";
import { namesSession, normalPath, pathFault, readBesidePath } from "../config/paths.ts";
import type { Route } from "../model/route.ts";
import { forwardedAddress } from "../server/http/request.ts";
import type { Deny } from "./decision.ts";
import { headerName } from "./header-names.ts";
import type { CheckRequest } from "./wire/decode.ts";

/** What the `Authorization` header holds: nothing, one well-formed bearer token, or something else. */
export type Presented =
  | { readonly kind: "none" }
  | { readonly kind: "bearer"; readonly token: string }
  | { readonly kind: "other" };

/** What shows whether a person asks or a program; known also of a request that is denied while it is read. */
export type Requester = Pick<RequestFacts, "requestId" | "method" | "headers" | "presented">;

/** A request as every later step sees it: checked once, in `read-request-facts.ts`, and never doubted again. */
export interface RequestFacts {
  /** Envoy's `x-request-id`, else one of ours: what the error body and the log share. */
  readonly requestId: string;
  /** Lower case, with its port where the client sent one. */
  readonly host: string;
  /** Starts with `/`; no query, no dot segments, no encoded slashes; in `normalPath`'s form. */
  readonly path: string;
  /** The same as Envoy has it, which picks its route by this. */
  readonly sentPath: string;
  /** Behind the `?`, without it. */
  readonly query: string;
  readonly method: string;
  /** Names in lower case, pseudo-headers left out; several of one name joined by a comma. No prototype. */
  readonly headers: Readonly<Record<string, string>>;
  /** The names of `headers`, in the order they came. */
  readonly headerNames: readonly string[];
  /** Names of headers whose values are not ASCII: nothing is judged by these. */
  readonly opaque: readonly string[];
  readonly presented: Presented;
  readonly rawBody?: Buffer;
  readonly sourceIp?: string;
  /** What Envoy's route says of itself (`context_extensions`). */
  readonly context: Readonly<Record<string, string>>;
}

const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const hostName = /^(?:[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?\.?|\[[0-9a-f:.]+\])(?::\d{1,5})?$/;
const bearer = /^bearer +([A-Za-z0-9\-._~+/]+=*)$/i;
const printable = /^[\t -~]*$/;
/** RFC 9110 section 5.5: obsolete, and sent all the same (a city's name in UTF-8). */
const opaqueValue = /^[\t -~\x80-\xff]*$/;
/** What is judged must be read alike by everybody. */
const judged =
  /^(?::.*|authorization|host|accept|content-(?:type|length|encoding)|transfer-encoding|mcp-(?!param-).*|sec-fetch-mode|x-forwarded-(?:for|host|proto))$/;
const requestIdShape = /^[A-Za-z0-9._-]{1,64}$/;
/** Of these a second value would mean another request to another reader. */
const singular = new Set([
  "authorization",
  "host",
  ":authority",
  ":path",
  ":method",
  ":scheme",
  "content-type",
]);

/**
 * Turns a CheckRequest into facts, or into the denial it deserves. Never throws, whatever Envoy sent.
 *
 * @param maxHeaderBytes sum of all header names and values.
 * @returns with a denial, what shows who has sent the request, as far as that could be read
 * @param trustedHops proxies in front of Envoy: the peer of its connection, of which alone it tells us, is the nearest of them.
 */
export function readRequestFacts(
  request: CheckRequest,
  maxHeaderBytes: number,
  trustedHops = 0,
): { readonly facts: RequestFacts } | { readonly refusal: Deny; readonly requester: Requester } {
  const http = request.http ?? { method: "", path: "", host: "", headers: [] };
  const read = readHeaders(http.headers, maxHeaderBytes);
  const requestId = requestIdOf(read.headers["x-request-id"]);
  const method = http.method || (read.pseudo[":method"] ?? "");
  const presented = presentedBy(read.headers.authorization);
  const refuse = (refusal: Deny) => ({
    refusal,
    requester: { requestId, method, headers: read.headers, presented },
  });
  if (!request.http) return refuse(bad("malformed_check", "the check holds no HTTP request"));
  if (read.refusal) return refuse(read.refusal);

  if (!token.test(method)) return refuse(bad("bad_method", "the request has no valid method"));
  if (method === "CONNECT" || method === "TRACE")
    return refuse(bad("bad_method", `${method} is not served here`));

  const authority = read.pseudo[":authority"] ?? read.headers.host;
  const host = (http.host || authority || "").toLowerCase();
  if (host === "") return refuse(bad("no_host", "the request names no host"));
  if (!hostName.test(host)) return refuse(bad("bad_host", "the request's host is not a host name"));
  if (authority !== undefined && authority.toLowerCase() !== host) {
    return refuse(bad("bad_host", "the request names two different hosts"));
  }

  const target = http.path || (read.pseudo[":path"] ?? "");
  const question = target.indexOf("?");
  const path = question < 0 ? target : target.slice(0, question);
  const query = question < 0 ? "" : target.slice(question + 1);
  const fault = pathFault(path);
  if (fault) return refuse(bad("bad_path", fault));
  if (/[^!-~]/.test(query)) return refuse(bad("bad_path", "the query has control or non-ASCII characters"));
  // RFC 6750 section 2.3 tokens end up in logs; MCP forbids them.
  if (/(?:^|[&;])access_token(?:=|&|;|$)/i.test(decodedNames(query))) {
    return refuse(
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
      rawBody: http.rawBody,
      sourceIp:
        trustedHops === 0
          ? request.sourceIp
          : forwardedAddress(read.headers["x-forwarded-for"] ?? "", trustedHops),
      context: request.contextExtensions,
    },
  };
}

/** Headers by name, and what is wrong with them. */
function readHeaders(
  sent: readonly string[],
  maxBytes: number,
): {
  headers: Record<string, string>;
  names: string[];
  opaque: string[];
  pseudo: Record<string, string>;
  refusal?: Deny;
} {
  const headers: Record<string, string> = Object.create(null);
  const names: string[] = [];
  const opaque: string[] = [];
  const pseudo: Record<string, string> = Object.create(null);
  let refusal: Deny | undefined;
  let bytes = 0;
  for (let index = 0; index < sent.length; index += 2) {
    const { name, pseudo: isPseudo, valid } = headerName(sent[index] ?? "");
    const value = sent[index + 1] ?? "";
    const place = isPseudo ? pseudo : headers;
    bytes += name.length + value.length;
    const before = place[name];
    if (before !== undefined && singular.has(name)) {
      refusal ??= bad("repeated_header", `the request has several ${name.replace(":", "")} headers`);
    }
    if (before === undefined && !isPseudo) names.push(name);
    if (!valid) refusal ??= bad("bad_header", "a header name has invalid characters");
    // The name is the client's, but a valid token by now; its value is never shown.
    else if (!printable.test(value)) {
      if (opaqueValue.test(value) && !judged.test(name)) opaque.push(name);
      else
        refusal ??= bad("bad_header", `the header ${name.slice(0, 64)} has control or non-ASCII characters`);
    }
    place[name] = before === undefined ? value : before + (name === "cookie" ? "; " : ",") + value;
  }
  if (bytes > maxBytes) {
    refusal = deny(431, "headers_too_large", `the request's headers are longer than ${maxBytes} bytes`);
  }
  // Envoy joins repeated headers by commas in the plain encoding; no credential has one.
  if (headers.authorization?.includes(",")) {
    refusal ??= bad("repeated_header", "the request has several authorization values");
  }
  return { headers, names, opaque, pseudo, refusal };
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

/** Whether an answer may be a stream of HTTP+SSE, which begins with it; those of Streamable HTTP name their session, where there is one. */
export function mayBeLegacyStream({ method, headers }: RequestFacts): boolean {
  return method === "GET" && headers["mcp-session-id"] === undefined;
}

/**
 * Whether a request is a message of the legacy HTTP+SSE transport. Its place is one that the stream's first event has named: beside
 * `to`, or with the session in its query; Streamable HTTP accepts event streams and names a session in a header.
 */
export function isLegacyPost({ method, path, query, headers }: RequestFacts, route: Route): boolean {
  if (method !== "POST" || headers["mcp-session-id"] !== undefined) return false;
  if (readBesidePath(route, path) !== undefined) return true;
  return namesSession(query) && !/\btext\/event-stream\b/i.test(headers.accept ?? "");
}
