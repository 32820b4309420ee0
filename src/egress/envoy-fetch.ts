import { readFileSync, statSync } from "node:fs";
import { isIP } from "node:net";
import { Readable } from "node:stream";
import { createSecureContext, type SecureContext } from "node:tls";
import { Agent, buildConnector, type Dispatcher } from "undici";
import { withoutBrackets } from "./addresses.ts";
import { inRequestSpan } from "./connector.ts";
import { SafeFetchError } from "./errors.ts";

/** Where the gateway's own Envoy listens, as seen from this process. */
export interface EnvoyAddress {
  /** `http://host:port` or `https://host:port`. */
  readonly through: string;
  /** PEM file with the authorities of Envoy's certificate, the only ones that are accepted. */
  readonly ca: string;
}

/** Of a TCP connection with its TLS handshake, ms. */
const connectTimeout = 5_000;
/** Until the headers of a response, ms: a tool that answers with JSON sends none before it is done. */
const headersTimeout = 600_000;
/** Longest response that is not an event stream. */
const maxBytes = 16 * 1024 * 1024;
/** Of idle connections, ms: well below Envoy's own. */
const keepAliveTimeout = 30_000;
const withoutBody = new Set([101, 204, 205, 304]);

/**
 * A `fetch` for public URLs of this gateway that connects to its Envoy, wherever their hosts resolve to. A certificate must be valid for
 * the host of the URL. Event streams stay open without a timeout. No proxy is used, and redirects are returned, not followed.
 *
 * @param address read on every call, so that a reload of the routes file takes effect
 * @throws SafeFetchError from the returned function
 */
export function createEnvoyFetch(address: () => EnvoyAddress): {
  readonly fetch: typeof globalThis.fetch;
  close(): Promise<void>;
} {
  let opened: (EnvoyAddress & { readonly agent: Agent }) | undefined;
  /** Connections to a former address are not used again. */
  function agentFor({ through, ca }: EnvoyAddress): Agent {
    if (opened?.through === through && opened.ca === ca) return opened.agent;
    opened?.agent.close().catch(() => {});
    const agent = new Agent({
      connect: connectorTo({ through, ca }),
      pipelining: 1,
      headersTimeout,
      bodyTimeout: 0,
      keepAliveTimeout,
      keepAliveMaxTimeout: keepAliveTimeout,
    });
    opened = { through, ca, agent };
    return agent;
  }

  async function send(url: URL, request: EnvoyRequest): Promise<Response> {
    const envoy = address();
    try {
      const { statusCode, headers, body } = await agentFor(envoy).request({
        origin: url.origin,
        path: url.pathname + url.search,
        method: request.method,
        // Compression would cost more than it saves on this connection.
        headers: { ...Object.fromEntries(request.headers), "accept-encoding": "identity" },
        body: request.body,
        signal: request.signal,
      });
      const received = headersOf(headers);
      if (withoutBody.has(statusCode)) {
        body.destroy();
        return new Response(null, { status: statusCode, headers: received });
      }
      if (/^text\/event-stream\b/i.test(received.get("content-type") ?? "")) {
        // Node's and TypeScript's types of the same standard stream differ.
        const open: unknown = Readable.toWeb(body);
        return new Response(open as ReadableStream<Uint8Array<ArrayBuffer>>, {
          status: statusCode,
          headers: received,
        });
      }
      const whole = await bounded(body, url);
      received.set("content-length", String(whole.length));
      return new Response(whole, { status: statusCode, headers: received });
    } catch (error) {
      throw describe(error, url, envoy.through);
    }
  }

  return {
    async fetch(input, init) {
      const { url, ...request } = await requestOf(input, init);
      return inRequestSpan({ url, ...request }, () => send(url, request));
    },
    // Streams would never end.
    close: async () => opened?.agent.destroy(),
  };
}

interface EnvoyRequest {
  readonly method: Dispatcher.HttpMethod;
  readonly headers: Headers;
  readonly body: string | Uint8Array | null;
  readonly signal: AbortSignal | null;
}

/** Without a `Request` in between, which would cost more than the call. */
async function requestOf(
  input: string | URL | Request,
  init: RequestInit | undefined,
): Promise<EnvoyRequest & { readonly url: URL }> {
  const given = input instanceof Request ? input : undefined;
  const method = methodOf(init?.method ?? given?.method ?? "GET");
  const body = init?.body ?? (given?.body ? new Uint8Array(await given.arrayBuffer()) : null);
  return {
    url: new URL(given?.url ?? String(input)),
    method,
    headers: new Headers(init?.headers ?? given?.headers),
    body: body === null || typeof body === "string" || body instanceof Uint8Array ? body : await bytes(body),
    signal: init?.signal ?? given?.signal ?? null,
  };
}

async function bytes(body: BodyInit): Promise<Uint8Array> {
  return new Uint8Array(await new Response(body).arrayBuffer());
}

function methodOf(method: string): Dispatcher.HttpMethod {
  switch (method) {
    case "GET":
    case "POST":
    case "DELETE":
      return method;
    default:
      throw new TypeError(`MCP has no ${method} requests`);
  }
}

function headersOf(received: Readonly<Record<string, string | string[] | undefined>>): Headers {
  const headers = new Headers();
  for (const [name, value] of Object.entries(received))
    for (const one of [value ?? []].flat()) headers.append(name, one);
  headers.delete("content-encoding");
  headers.delete("content-length");
  return headers;
}

/** @throws SafeFetchError if it is longer than `maxBytes` */
async function bounded(body: Readable, url: URL): Promise<Buffer<ArrayBuffer>> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of body) {
    length += chunk.length;
    if (length > maxBytes)
      throw new SafeFetchError("too_large", `the response of ${url.host} is longer than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Connects to Envoy, whatever the URL's host and scheme. */
function connectorTo({ through, ca }: EnvoyAddress): buildConnector.connector {
  const plain = buildConnector({ timeout: connectTimeout, allowH2: false });
  let secure: { readonly trusted: SecureContext; readonly connect: buildConnector.connector } | undefined;
  const authorities = trustedOnly();
  return (target, callback) => {
    const { protocol, hostname, port, host } = new URL(through);
    const envoy = { protocol, hostname: withoutBrackets(hostname), host, port };
    if (protocol === "http:") {
      plain({ ...envoy, port: port || "80" }, callback);
      return;
    }
    const servername = withoutBrackets(target.hostname);
    if (isIP(servername) !== 0) {
      callback(new SafeFetchError("tls_failed", `${servername} is an address: it cannot be verified`), null);
      return;
    }
    try {
      const trusted = authorities(ca);
      if (secure?.trusted !== trusted)
        secure = {
          trusted,
          connect: buildConnector({ timeout: connectTimeout, allowH2: false, secureContext: trusted }),
        };
    } catch (error) {
      const code = error instanceof Error && "code" in error ? String(error.code) : "not a certificate";
      callback(new SafeFetchError("tls_failed", `aggregation.ca: ${ca} cannot be used (${code})`), null);
      return;
    }
    secure.connect({ ...envoy, port: port || "443", servername }, callback);
  };
}

/** Reads a file of authorities again when it has changed. */
function trustedOnly(): (ca: string) => SecureContext {
  let known: { readonly ca: string; readonly changedAt: number; readonly trusted: SecureContext } | undefined;
  return (ca) => {
    const changedAt = statSync(ca).mtimeMs;
    if (known?.ca !== ca || known.changedAt !== changedAt)
      known = { ca, changedAt, trusted: createSecureContext({ ca: readFileSync(ca) }) };
    return known.trusted;
  };
}

/** The caller's own abort stays as it is. */
function describe(error: unknown, url: URL, through: string): unknown {
  for (let at = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth++) {
    if (at instanceof SafeFetchError || at.name === "AbortError") return at;
    const code = "code" in at && typeof at.code === "string" ? at.code : "";
    if (code === "UND_ERR_CONNECT_TIMEOUT" || code === "UND_ERR_HEADERS_TIMEOUT")
      return new SafeFetchError("timed_out", `${url.host} did not answer in time (through ${through})`, {
        cause: error,
      });
    if (/CERT|SSL|TLS|SELF_SIGNED|UNABLE_TO/.test(code))
      return new SafeFetchError(
        "tls_failed",
        `the certificate of ${through} is not valid for ${url.host}: ${code}`,
        { cause: error },
      );
  }
  return new SafeFetchError("unreachable", `${url.host} could not be reached through ${through}`, {
    cause: error,
  });
}
