import type { IncomingHttpHeaders } from "node:http";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import type { TLSSocket } from "node:tls";
import { type Listener, listen } from "../../dev/demo/listen.ts";

/** One request as it arrived. */
export interface Seen {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** The body as a form. */
  readonly form: URLSearchParams;
}
export interface Scripted {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Objects are sent as JSON. */
  readonly body?: unknown;
  /** The response stays open after its body; called when the client ends it. */
  readonly onEnd?: () => void;
  /** For such a response: gets functions that write more and that end it. */
  readonly onOpen?: (write: (text: string) => void, end: () => void) => void;
}
/**
 * A server of the legacy HTTP+SSE transport: it accepts no POST at the URL of its stream.
 *
 * @param endpoint named by its first event; undefined: there is no such event
 * @param onEnd the client has ended the stream
 */
export function legacyServer(
  endpoint: string | undefined,
  { posted = 405, onEnd = () => {} }: { readonly posted?: number; readonly onEnd?: () => void } = {},
): (seen: Seen) => Scripted {
  const first = endpoint === undefined ? ": hello\n\n" : `event: endpoint\r\ndata: ${endpoint}\r\n\r\n`;
  return ({ method }) =>
    method === "GET"
      ? { headers: { "content-type": "text/event-stream; charset=utf-8" }, body: first, onEnd }
      : { status: posted, body: "no" };
}

/**
 * A complete server of that transport: messages posted to its endpoint are answered over the stream.
 *
 * @param endpoint named by the first event
 * @param options.post responds to a posted message, by `say` over the stream, or ends the stream; default: with a result
 * @param options.at path of the stream
 * @param options.to path of the endpoint; default: as in `endpoint`
 */
export function legacySession(
  server: Pick<ScriptedServer, "on">,
  endpoint: string,
  {
    at = "/mcp",
    to = new URL(endpoint, "http://scripted").pathname,
    post = (say, { body }) => {
      say({ jsonrpc: "2.0", id: JSON.parse(body).id, result: {} });
      return { status: 202 };
    },
    ...stream
  }: {
    readonly at?: string;
    readonly to?: string;
    readonly post?: (say: (message: object) => void, seen: Seen, end: () => void) => Scripted | undefined;
  } & Parameters<typeof legacyServer>[1] = {},
): void {
  const open = legacyServer(endpoint, stream);
  let write = (_text: string) => {};
  let end = () => {};
  const onOpen = (...opened: [typeof write, typeof end]) => {
    [write, end] = opened;
  };
  server.on(at, (seen) => ({ ...open(seen), onOpen }));
  server.on(to, (seen) => post((message) => write(`data: ${JSON.stringify(message)}\n\n`), seen, end));
}

/** A value, or a function of the request; if it returns `undefined`, the request hangs indefinitely. */
type Script = Scripted | ((seen: Seen) => Scripted | undefined | Promise<Scripted | undefined>);

/** A real HTTP server on loopback that responds by path, 404 elsewhere, and records its requests. */
export interface ScriptedServer {
  readonly url: string;
  readonly host: string;
  readonly seen: Seen[];
  /** For a TLS server: the name that each connection requested (SNI). */
  readonly names: string[];
  /** Requested paths, in order. */
  paths(): string[];
  on(path: string, script: Script): void;
  off(path: string): void;
  close(): Promise<void>;
}

/** @param tls PEM: the server uses https, as `localhost` */
export async function scriptedServer(
  scripts: Readonly<Record<string, Script>> = {},
  tls?: { readonly key: string; readonly cert: string },
): Promise<ScriptedServer> {
  const byPath = new Map(Object.entries(scripts));
  const seen: Seen[] = [];
  const listener = await listen(async (request, response) => {
    const url = new URL(request.url ?? "/", "http://scripted");
    const body = await text(request);
    const one: Seen = {
      method: request.method ?? "",
      path: url.pathname,
      query: url.searchParams,
      headers: request.headers,
      body,
      form: new URLSearchParams(body),
    };
    seen.push(one);
    const script = byPath.get(url.pathname);
    const answer = typeof script === "function" ? await script(one) : (script ?? { status: 404, body: "no" });
    if (!answer) return;
    const raw = typeof answer.body === "string" || Buffer.isBuffer(answer.body);
    response.writeHead(answer.status ?? 200, {
      ...(raw ? {} : { "content-type": "application/json" }),
      ...answer.headers,
    });
    const bytes = raw ? answer.body : JSON.stringify(answer.body ?? {});
    if (!answer.onEnd) return void response.end(bytes);
    response.on("close", answer.onEnd);
    response.write(bytes);
    answer.onOpen?.(
      (text) => response.write(text),
      () => response.end(),
    );
  });
  const secure = tls && (await encrypted(listener, tls));
  const url = secure?.url ?? listener.url;
  return {
    url,
    host: new URL(url).host,
    names: secure?.names ?? [],
    seen,
    paths: () => seen.map(({ path }) => path),
    on: (path, script) => void byPath.set(path, script),
    off: (path) => void byPath.delete(path),
    async close() {
      await secure?.close();
      await listener.close();
    },
  };
}

/** The same server behind TLS. */
async function encrypted(listener: Listener, tls: { readonly key: string; readonly cert: string }) {
  const names: string[] = [];
  const server = createServer(tls, (request, response) => listener.server.emit("request", request, response));
  server.on("secureConnection", ({ servername }: TLSSocket & { servername?: string | false }) =>
    names.push(servername || ""),
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const close = () =>
    new Promise<void>((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  return { url: `https://localhost:${port}`, names, close };
}
