import { randomUUID } from "node:crypto";
import type { IncomingMessage } from "node:http";

const ids = new WeakMap<IncomingMessage, string>();

/** The id that this request has in our logs, Envoy's and on error pages: its `x-request-id`, else one made once. */
export function requestId(request: IncomingMessage): string {
  const known = ids.get(request);
  if (known) return known;
  const given = request.headers["x-request-id"];
  const id = typeof given === "string" && /^[\w.:-]{8,64}$/.test(given) ? given : randomUUID();
  ids.set(request, id);
  return id;
}
