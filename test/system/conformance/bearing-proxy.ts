import { request } from "node:https";
import { type Listener, listen } from "../../../dev/demo/listen.ts";
import type { Stack } from "../../../dev/demo/stack.ts";

/**
 * Stands in for a client with an external token, because the suite's server scenarios support neither tokens nor test hosts. Forwards
 * every request to Envoy unchanged, with the token, and to the route's host unless it names a foreign one.
 */
export function bearingProxy(
  stack: Pick<Stack, "envoyPort" | "ca">,
  host: string,
  token: string,
): Promise<Listener> {
  return listen((incoming, answer) => {
    const asked = incoming.headers.host ?? "";
    const ours = /^(localhost|127\.0\.0\.1|\[::1\])(:|$)/.test(asked);
    const outgoing = request(
      {
        host: "127.0.0.1",
        port: stack.envoyPort,
        servername: host,
        ca: stack.ca.ca,
        method: incoming.method,
        path: incoming.url,
        headers: { ...incoming.headers, host: ours ? host : asked, authorization: `Bearer ${token}` },
      },
      (response) => {
        answer.writeHead(response.statusCode ?? 502, response.headers);
        // A client needs the headers of an event stream before its first event.
        answer.flushHeaders();
        response.pipe(answer);
      },
    );
    outgoing.on("error", () => answer.destroy());
    answer.on("close", () => outgoing.destroy());
    incoming.pipe(outgoing);
  });
}
