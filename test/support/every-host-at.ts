import { Agent, buildConnector, type RequestInit as UndiciInit, fetch as undiciFetch } from "undici";

/** A fetch that sends every https request as plain http to one loopback port; plain http is unchanged. */
export function everyHostAt(port: number): { fetch: typeof globalThis.fetch; close(): Promise<void> } {
  const connect = buildConnector({});
  const agent = new Agent({
    connect: (options, callback) =>
      connect({ ...options, hostname: "127.0.0.1", host: "127.0.0.1", port: String(port) }, callback),
  });
  const reach = (input: string | URL, init?: UndiciInit) => {
    const url = new URL(input);
    if (url.protocol === "http:") return undiciFetch(url, init);
    return undiciFetch(`http://${url.host}${url.pathname}${url.search}`, { ...init, dispatcher: agent });
  };
  // The library's types of the fetch standard and TypeScript's differ in name only.
  const fetch: unknown = reach;
  return { fetch: fetch as typeof globalThis.fetch, close: () => agent.destroy() };
}
