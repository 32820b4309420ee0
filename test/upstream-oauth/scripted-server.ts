import type { IncomingHttpHeaders } from "node:http";
import { text } from "node:stream/consumers";
import { listen } from "../../deploy/demo/listen.ts";

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
  /** Objects go out as JSON. */
  readonly body?: unknown;
}
/** A value, or a function of the request; `undefined` from it hangs for ever. */
type Script = Scripted | ((seen: Seen) => Scripted | undefined | Promise<Scripted | undefined>);

/** A real HTTP server on loopback that answers by path, 404 elsewhere, and remembers who came. */
export interface ScriptedServer {
  readonly url: string;
  readonly host: string;
  readonly seen: Seen[];
  /** Paths asked for, in order. */
  paths(): string[];
  on(path: string, script: Script): void;
  off(path: string): void;
  close(): Promise<void>;
}

export async function scriptedServer(
  scripts: Readonly<Record<string, Script>> = {},
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
    response.end(raw ? answer.body : JSON.stringify(answer.body ?? {}));
  });
  return {
    url: listener.url,
    host: new URL(listener.url).host,
    seen,
    paths: () => seen.map(({ path }) => path),
    on: (path, script) => void byPath.set(path, script),
    off: (path) => void byPath.delete(path),
    close: listener.close,
  };
}
