import { Agent, buildConnector, type RequestInfo, type RequestInit, fetch as undiciFetch } from "undici";

/** A `fetch` and the way to end its idle connections. */
export interface LoopbackFetch {
  readonly fetch: typeof globalThis.fetch;
  close(): Promise<void>;
}

/**
 * A `fetch` for test hosts that no DNS knows: every https host is reached at 127.0.0.1 (a URL without a port
 * at `port`, one with a port at that), and `ca` (PEM) is trusted. Plain http goes where its URL says.
 */
export function loopbackFetch(ca: string, port: number): LoopbackFetch {
  const connect = buildConnector({ ca });
  const agent = new Agent({
    connect(options, callback) {
      if (options.protocol !== "https:") return connect(options, callback);
      const servername = options.servername || options.hostname;
      const target = options.port === "" || options.port === "443" ? String(port) : options.port;
      connect({ ...options, servername, hostname: "127.0.0.1", host: "127.0.0.1", port: target }, callback);
    },
    // Event streams may be silent for long.
    bodyTimeout: 0,
  });
  // The library's own types of the fetch standard and TypeScript's differ in name only.
  const fetch: unknown = (input: RequestInfo, init?: RequestInit) =>
    undiciFetch(input, { ...init, dispatcher: agent });
  return { fetch: fetch as typeof globalThis.fetch, close: () => agent.destroy() };
}
