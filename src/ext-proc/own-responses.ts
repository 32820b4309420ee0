import type { Route } from "../model/route.ts";
import type { WorkBudget } from "./budgets.ts";
import type { ProcessingResponse } from "./protocol.ts";
import type { BodyFilter } from "./tool-list.ts";
import { giveUp, type Replacement, unavailable } from "./upstream-rejection.ts";

export interface Filtering {
  readonly filter: BodyFilter;
  readonly requestId: string;
  readonly route: Route;
  /** The user of the stream, if it may be legacy HTTP+SSE. */
  readonly watchedFor?: string;
  readonly holdsHead: boolean;
  readonly budgets: readonly WorkBudget[];
}

/** It might list tools that policy hides from the caller. */
export function unreadable(requestId: string): ProcessingResponse {
  const message =
    "the server's list of tools cannot be parsed, so tools that policy denies cannot be removed";
  return immediate(giveUp(requestId, 502, "tools_list_unreadable", message), "tools_list_unreadable");
}

/** Its events may send the client elsewhere; the check removed `accept-encoding`. */
export function encodedStream(requestId: string): ProcessingResponse {
  const message = "the server's event stream is compressed, although the request did not accept an encoding";
  return immediate(giveUp(requestId, 502, "upstream_stream_unreadable", message), "stream_unreadable");
}

export function tooManyStreams(requestId: string): ProcessingResponse {
  const message = "too many event streams are open at this gateway; try again";
  return immediate(unavailable(requestId, 10, message), "too_many_streams");
}

/** The target is only logged: the client could send its token there, or cannot reach it. */
export function redirectElsewhere(requestId: string): ProcessingResponse {
  const message =
    "the server redirects to another host, or to a path of another route: the route's `to` must be the URL that responds without that redirect";
  return immediate(giveUp(requestId, 502, "upstream_redirect_elsewhere", message), "redirect_elsewhere");
}

export function endpointElsewhere({ requestId }: Filtering): ProcessingResponse {
  const message =
    "the server sends its clients' messages to another host, or to a path of another route: the `endpoint` event of its stream must name a path below the route's `to`";
  return immediate(giveUp(requestId, 502, "upstream_endpoint_elsewhere", message), "endpoint_elsewhere");
}

export function immediate(replacement: Replacement, outcome: string): ProcessingResponse {
  return {
    immediateResponse: {
      status: { code: replacement.status },
      headers: {
        setHeaders: replacement.headers.map(([key, value]) => ({
          header: { key, rawValue: Buffer.from(value, "latin1") },
          appendAction: "OVERWRITE_IF_EXISTS_OR_ADD",
        })),
      },
      body: Buffer.from(replacement.body),
      details: `envoy_mcp_auth_${outcome}`,
    },
  };
}
