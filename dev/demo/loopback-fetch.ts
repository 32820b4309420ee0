import { Agent, buildConnector, type RequestInfo, type RequestInit, fetch as undiciFetch } from "undici";

/** A `fetch`, and a function that closes its idle connections. */
export interface LoopbackFetch {
  readonly fetch: typeof globalThis.fetch;
  close(): Promise<void>;
}

/**
 * A `fetch` for test hosts without DNS: every https host is reached at 127.0.0.1 (a URL without a port
 * at `port`, one with a port at that port), and `ca` (PEM) is trusted. Plain http URLs are used unchanged.
 *
 * @param options.allowH2 false: HTTP/1.1 only. Node.js closes an HTTP/2 connection after a thousand unread response frames.
 * @param options.keepAliveMs how long an idle connection is kept
 */
export function loopbackFetch(
  ca: string,
  port: number,
  { allowH2 = true, keepAliveMs }: { readonly allowH2?: boolean; readonly keepAliveMs?: number } = {},
): LoopbackFetch {
  const connect = buildConnector({ ca, allowH2 });
  const agent = new Agent({
    allowH2,
    ...(keepAliveMs !== undefined && { keepAliveTimeout: keepAliveMs }),
    connect(options, callback) {
      if (options.protocol !== "https:") return connect(options, callback);
      const servername = options.servername || options.hostname;
      const target = options.port === "" || options.port === "443" ? String(port) : options.port;
      connect({ ...options, servername, hostname: "127.0.0.1", host: "127.0.0.1", port: target }, callback);
    },
    // Event streams may be silent for a long time.
    bodyTimeout: 0,
  });
  async function fetch(input: string | URL | globalThis.Request, init?: globalThis.RequestInit) {
    // The library's own types of the fetch standard and TypeScript's differ in name only.
    const response = await undiciFetch(
      input as unknown as RequestInfo,
      { ...init, dispatcher: agent } as unknown as RequestInit,
    );
    // The MCP SDK checks `instanceof Response` before it reads an OAuth error: it must be the global class.
    const bodyless = [101, 204, 205, 304].includes(response.status);
    const body = bodyless ? null : (response.body as unknown as globalThis.ReadableStream | null);
    const { status, statusText, url } = response;
    const made = new Response(body, { status, statusText, headers: [...response.headers] });
    return Object.defineProperty(made, "url", { value: url });
  }
  return { fetch, close: () => agent.destroy() };
}
