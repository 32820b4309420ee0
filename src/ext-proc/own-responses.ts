import type { Route } from "../model/route.ts";
import type { WorkBudget } from "./budgets.ts";
import type { ProcessingResponse } from "./protocol.ts";
import type { BodyFilter } from "./tool-list.ts";
import { giveUp, type Replacement, unavailable } from "./upstream-rejection.ts";

export interface Filtering {
  readonly filter: BodyFilter;
  readonly requestId: string;
  readonly route: Route;
  /** Whose stream it is, if it may be a legacy one. */
  readonly watchedFor?: string;
  readonly holdsHead: boolean;
  readonly budgets: readonly WorkBudget[];
}

/** It might list tools that the caller may not see, and nobody can tell. */
export function unreadable(requestId: string): ProcessingResponse {
  const message = "the server's list of tools cannot be read, so what may not be seen cannot be taken out";
  return immediate(giveUp(requestId, 502, "tools_list_unreadable", message), "tools_list_unreadable");
}

/** Its events may send the client elsewhere; the check has asked for no encoding. */
export function encodedStream(requestId: string): ProcessingResponse {
  const message = "the server's event stream is compressed, although none of that was asked for";
  return immediate(giveUp(requestId, 502, "upstream_stream_unreadable", message), "stream_unreadable");
}

export function tooManyStreams(requestId: string): ProcessingResponse {
  const message = "too many event streams are open at this gateway; try again";
  return immediate(unavailable(requestId, 10, message), "too_many_streams");
}

/** Where it leads is for the log: the client could take its token there, or cannot reach it. */
export function redirectElsewhere(requestId: string): ProcessingResponse {
  const message =
    "the server redirects to another host than its own, or to what another route is for: the route's `to` must be the URL that answers without that redirect";
  return immediate(giveUp(requestId, 502, "upstream_redirect_elsewhere", message), "redirect_elsewhere");
}

export function endpointElsewhere({ requestId }: Filtering): ProcessingResponse {
  const message =
    "the server sends its clients' messages to another address than its own, or to a path of another route: the `endpoint` event of its stream must name a path below the route's `to`";
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
