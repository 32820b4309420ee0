import type { Context } from "koa";
import { longestRequest } from "../model/route.ts";
import { countPer } from "../server/http/limits.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { Places } from "../util/at-once.ts";
import type { AggregateCall } from "./aggregation.ts";
import { TooMany } from "./errors.ts";
import { type ClientRequest, jsonRpcError, readRequest } from "./http.ts";

/** Requests of one user that this replica handles at once, streams included. */
const maxRequestsPerUser = 256;
/** Requests that are being read at once: in this process, and of one user. The others wait. */
const maxReading = 256;
const maxReadingPerUser = 16;
/** Sessions that clients of one user may begin within a minute, on this replica: some libraries begin one for every call (LangChain). */
const maxSessionsPerMinute = 120;

/** What one user may use of this replica. */
export interface Admission {
  /** The request, read when it is its turn; the response to it if there are too many, or if it cannot be read. */
  read(ctx: Context, call: AggregateCall): Promise<ClientRequest | Response>;
  /** Called before a session is created. @throws TooMany */
  beforeSession(call: AggregateCall): void;
  /** The response to a request that is one too many, with its body if it has been read. */
  tooMany(error: TooMany, body?: unknown): Response;
}

export function admission({ metrics }: { readonly metrics: Metrics }): Admission {
  const handling = new Places(Number.POSITIVE_INFINITY);
  const reading = new Places(maxReading);
  const begun = countPer(60_000);

  function tooMany({ message, limit, retryAfter }: TooMany, body?: unknown): Response {
    metrics.limitsReached.inc({ limit });
    const response = jsonRpcError(429, -32_000, message, body);
    response.headers.set("retry-after", String(retryAfter));
    return response;
  }

  return {
    tooMany,
    async read(ctx, { caller: { userId }, route }) {
      const { res } = ctx;
      const handled = handling.take({ key: userId, max: maxRequestsPerUser });
      if (handled === undefined) return tooMany(new TooMany("aggregated_requests_per_user", 1));
      const gone = new AbortController();
      const onClose = () => {
        handled();
        gone.abort();
      };
      res.once("close", onClose);
      // The client may have disconnected while the call was checked: there is no event then.
      if (res.closed) onClose();
      const share = { key: userId, max: maxReadingPerUser };
      const done = await reading.wait(gone.signal, share).catch(() => undefined);
      if (done === undefined) return jsonRpcError(408, -32_000, "The client has disconnected");
      try {
        return await readRequest(ctx, longestRequest(route));
      } finally {
        done();
      }
    },
    beforeSession({ caller: { userId } }) {
      if (!begun.take(userId, maxSessionsPerMinute))
        throw new TooMany("aggregated_sessions_per_user", begun.retryAfter(userId));
    },
  };
}
