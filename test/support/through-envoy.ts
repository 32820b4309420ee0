import type { IncomingMessage } from "node:http";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { request as httpsRequest } from "node:https";
import { text } from "node:stream/consumers";
import { connect as connectTls } from "node:tls";
import type { Stack } from "../../dev/demo/stack.ts";

/** The request, sent without normalization. */
export interface RawRequest {
  /** Public URL; `path`, if set, replaces its path verbatim. */
  readonly url: string;
  /** Sent verbatim: dot segments, encoded slashes. */
  readonly path?: string;
  readonly method?: string;
  /** A list sends the header once per value. */
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  readonly body?: string;
}

/** A response with its body. Header names in lower case, one entry per header line. */
export interface RawAnswer {
  readonly status: number;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: string;
  header(name: string): string | undefined;
}

type Place = Pick<Stack, "envoyPort" | "ca">;

/** Sends one HTTP/1.1 request on a new connection and reads the whole response. */
export async function throughEnvoy(stack: Place, request: RawRequest): Promise<RawAnswer> {
  const response = await openThroughEnvoy(stack, request);
  const body = await text(response);
  return answer(response.statusCode ?? 0, pairs(response.rawHeaders), body);
}

/** Like `throughEnvoy`, but returns the response as soon as its headers have arrived: for event streams. */
export function openThroughEnvoy(stack: Place, request: RawRequest): Promise<IncomingMessage> {
  const url = new URL(request.url);
  return new Promise((resolve, reject) => {
    const outgoing = httpsRequest(
      {
        host: "127.0.0.1",
        port: url.port || stack.envoyPort,
        servername: url.hostname,
        ca: stack.ca.ca,
        agent: false,
        method: request.method ?? "GET",
        path: request.path ?? url.pathname + url.search,
        headers: { host: url.host, ...copy(request.headers) },
      },
      resolve,
    );
    outgoing.once("error", reject);
    outgoing.end(request.body);
  });
}

/** Sends one HTTP/2 request; `:authority` is the URL's host. */
export async function throughEnvoyHttp2(stack: Place, request: RawRequest): Promise<RawAnswer> {
  const url = new URL(request.url);
  const session: ClientHttp2Session = connectHttp2(url.origin, {
    createConnection: () =>
      connectTls({
        host: "127.0.0.1",
        port: Number(url.port || stack.envoyPort),
        servername: url.hostname,
        ca: stack.ca.ca,
        ALPNProtocols: ["h2"],
      }),
  });
  try {
    return await new Promise((resolve, reject) => {
      session.once("error", reject);
      const stream = session.request({
        ":method": request.method ?? "GET",
        ":path": request.path ?? url.pathname + url.search,
        ":authority": url.host,
        ...copy(request.headers),
      });
      stream.once("error", reject);
      stream.once("response", (headers, _flags, raw) => {
        text(stream).then((body) => resolve(answer(headers[":status"] ?? 0, pairs(raw), body)), reject);
      });
      stream.end(request.body);
    });
  } finally {
    session.close();
  }
}

/** Writes `bytes` on a TLS connection and returns everything received until the peer closes it. */
export async function bytesThroughEnvoy(stack: Place, host: string, bytes: string | Buffer): Promise<string> {
  const socket = connectTls({
    host: "127.0.0.1",
    port: stack.envoyPort,
    servername: host,
    ca: stack.ca.ca,
    ALPNProtocols: ["http/1.1"],
  });
  socket.write(bytes);
  return text(socket);
}

function answer(status: number, headers: [string, string][], body: string): RawAnswer {
  return { status, headers, body, header: (name) => headers.find(([one]) => one === name)?.[1] };
}

function pairs(raw: readonly string[]): [string, string][] {
  return raw.flatMap((name, index): [string, string][] =>
    index % 2 === 0 && !name.startsWith(":") ? [[name.toLowerCase(), raw[index + 1] ?? ""]] : [],
  );
}

/** Node's header types require mutable arrays. */
function copy(headers: RawRequest["headers"] = {}): Record<string, string | string[]> {
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [name, typeof value === "string" ? value : [...value]]),
  );
}
