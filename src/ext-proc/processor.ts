import { setTimeout as delay } from "node:timers/promises";
import {
  type ServerDuplexStream,
  type ServiceDefinition,
  status,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { provenByMessage, shownBy } from "../config/listeners.ts";
import { boundedCache } from "../util/bounded-cache.ts";
import { recordSession } from "./elicitation-session.ts";
import { rewriteEndpoints } from "./endpoint-events.ts";
import { type HeldBytes, heldBytes, type WorkBudget, workBudget } from "./memory-and-cpu-limits.ts";
import {
  type ExternalProcessorDeps,
  externalProcessor,
  type ProcessingRequest,
  type ProcessingResponse,
  type UpstreamResponse,
  upstreamResponse,
} from "./protocol.ts";
import {
  answerRejection,
  encodedStream,
  endpointElsewhere,
  type Filtering,
  immediate,
  redirectElsewhere,
  tooManyStreams,
  unavailable,
  unreadable,
} from "./replacement-responses.ts";
import {
  headMutation,
  rewrittenEndpoint,
  rewrittenHead,
  withoutOwnSetCookies,
} from "./rewrite-response-headers.ts";
import { filterTools, inTurn } from "./tool-list.ts";

/** Share of the event loop that filtering may use: per response, and per route. */
const streamShare = 0.02;
const streamBurstMs = 100;
const routeShare = 0.2;
const routeBurstMs = 400;
/** Overhead per message: an upstream that sends single bytes causes one message per byte. ms. */
const messageMs = 0.25;

/** Envoy opens a stream together with its first message; an unauthenticated peer must send response headers within this. ms. */
const firstMessageMs = 10_000;

/**
 * The ext_proc service (`envoy.service.ext_proc.v3.ExternalProcessor`): inspects the response headers of allowed requests, replaces
 * 401 and 403 if the client can resolve them, and rewrites URLs and cookies of MCP servers. It inspects bodies only to filter lists of
 * tools, and for streams that may be legacy HTTP+SSE, until they end, because an endpoint event may come at any time. Otherwise it
 * ends its stream after the last message it needs. Envoy's matcher (docs/upstream-oauth.md) limits the calls to these responses, but is
 * not required. It acts only on metadata with a valid proof of a check.
 */
export function createExternalProcessor(deps: ExternalProcessorDeps): {
  readonly definition: ServiceDefinition;
  readonly implementation: UntypedServiceImplementation;
  readonly admits: "unproven";
} {
  const hold = heldBytes();
  /** Streams that may be legacy HTTP+SSE, which are inspected until they end. */
  let watched = 0;
  const watchedOf = new Map<string, number>();
  const maxPerUser = Math.ceil(deps.maxWatchedStreams / 8);
  function count(user: string, change: 1 | -1): void {
    watched += change;
    const now = (watchedOf.get(user) ?? 0) + change;
    if (now > 0) watchedOf.set(user, now);
    else watchedOf.delete(user);
  }
  /** Shared by the responses of a route. */
  const budgets = boundedCache<string, WorkBudget>(10_000);
  function budgetOf(routeId: string): WorkBudget {
    const known = budgets.get(routeId);
    if (known) return known;
    const budget = workBudget(routeShare, routeBurstMs);
    budgets.set(routeId, budget);
    return budget;
  }

  async function answerToHeaders(message: ProcessingRequest, onProven: () => void): Promise<Answer> {
    const response = upstreamResponse(message);
    if (!response) return { response: withoutOwnSetCookies(message) };
    const { metadata } = response;
    const rejection = response.status === 401 || response.status === 403;
    const stream = isEventStream(response) && metadata.firstEvent;
    // Without a valid proof, a response that must be inspected or rewritten is replaced; others pass unchanged.
    const inspected =
      rejection || metadata.toolFilter !== undefined || response.location.length > 0 || stream;
    const untouched = { response: headMutation({ remove: mcpCookies(response), set: [] }) };
    if (!deps.metadataProofs.verify(response.toProve, response.proof)) {
      deps.peers.rejected();
      return inspected ? unproven : untouched;
    }
    onProven();
    const table = deps.routes();
    const current = table.byId(metadata.route);
    // The route no longer exists.
    if (!current || !metadata.user) return inspected ? unproven : untouched;
    recordSession(deps, message, response, metadata.user);
    if (response.status === 401 || response.status === 403) {
      // A request has one response: a second one is a replay.
      if (response.proof === undefined || !deps.metadataProofs.spend(response.proof)) {
        deps.peers.rejected();
        return unproven;
      }
      const answer = await answerRejection(
        deps,
        response,
        response.status,
        current,
        metadata.owner ?? metadata.user,
      );
      if (answer) return { response: immediate(answer.replacement, answer.outcome) };
    }
    // URLs in a response refer to the upstream that sent it; a former upstream's cannot be mapped to the current one.
    const routeOfUpstream = table.withUpstream(current, metadata.upstream);
    const former = routeOfUpstream === undefined && metadata.upstream !== undefined;
    if (former && (stream || response.location.length > 0)) return unproven;
    const route = routeOfUpstream ?? current;
    const places = { table, metadataProofs: deps.metadataProofs, userId: metadata.user };
    const head = rewrittenHead(places, response, route);
    if ("elsewhere" in head) {
      const line = { route: route.id, requestId: metadata.requestId, leadsTo: hostOf(head.elsewhere) };
      deps.logger.warn(
        line,
        "an upstream's redirect leads to a host other than those of to and from, or to a path of another route",
      );
      return { response: redirectElsewhere(metadata.requestId) };
    }
    const { toolListBytes } = table.config.limits;
    const tools =
      metadata.toolFilter === undefined || rejection
        ? "none"
        : filterTools(response, metadata.toolFilter, toolListBytes);
    if (tools === "unreadable") return { response: unreadable(metadata.requestId) };
    if (stream && isEncoded(response)) return { response: encodedStream(metadata.requestId) };
    // A user may have an eighth, so that one user cannot exhaust the limit.
    if (stream && (watched >= deps.maxWatchedStreams || (watchedOf.get(metadata.user) ?? 0) >= maxPerUser)) {
      deps.metrics.limitsReached.inc({ limit: "watched_streams" });
      return { response: tooManyStreams(metadata.requestId) };
    }
    const first = stream
      ? rewriteEndpoints((endpoint) => rewrittenEndpoint(places, route, metadata.path, endpoint))
      : undefined;
    const filter = inTurn(first, tools === "none" ? undefined : tools);
    if (!filter) return { response: headMutation(head) };
    return {
      response: {
        ...headMutation({ ...head, remove: [...head.remove, "content-length"] }),
        // Never BUFFERED: if the body does not arrive in one read, Envoy never reads the rest.
        modeOverride: {
          responseHeaderMode: "SEND",
          responseBodyMode: "STREAMED",
          responseTrailerMode: "SEND",
        },
      },
      filtering: {
        filter,
        requestId: metadata.requestId,
        route,
        watchedFor: first && metadata.user,
        // Envoy sends the body without waiting for the response to the headers: the first event can still change the status.
        holdsHead:
          first !== undefined && message.protocolConfig?.sendBodyWithoutWaitingForHeaderResponse === true,
        budgets: [workBudget(streamShare, streamBurstMs), budgetOf(route.id)],
      },
    };
  }

  function process(stream: ServerDuplexStream<ProcessingRequest, ProcessingResponse>): void {
    // An Envoy that cannot add the secret is authenticated by the proof in its first message.
    const peer = deps.peers.verify(shownBy(stream.metadata));
    if (peer === "wrong") {
      deps.peers.rejected();
      stream.emit("error", { code: status.UNAUTHENTICATED, details: "the caller is not Envoy" });
      return;
    }
    let filtering: Filtering | undefined;
    const silent = setTimeout(
      () => stream.emit("error", { code: status.DEADLINE_EXCEEDED, details: "no message received" }),
      firstMessageMs,
    );
    /** Held bytes of this response; undefined until filtering starts. */
    let held: HeldBytes | undefined;
    /** Responses to the headers and the chunks since, while the first event may still change the status. */
    let waiting: ProcessingResponse[] | undefined;
    let late: NodeJS.Timeout | undefined;
    /** The user whose stream is watched, once it is counted. */
    let watchedFor: string | undefined;
    const releaseHead = () => {
      clearTimeout(late);
      for (const answer of waiting ?? []) stream.write(answer);
      waiting = undefined;
    };
    stream.once("close", () => {
      clearTimeout(silent);
      clearTimeout(late);
      held?.release();
      if (watchedFor !== undefined) count(watchedFor, -1);
    });
    /** The client may have the headers already: an error makes Envoy abort the response. */
    const abort = () =>
      stream.emit("error", { code: status.INTERNAL, details: "the response cannot be parsed" });
    const last = (answer: ProcessingResponse) => {
      stream.write(answer);
      stream.end();
    };
    /** Filters the next chunk of a body, within the budgets of its stream and its route. */
    const filterBody = async (body: Buffer, isLast: boolean, filtering: Filtering) => {
      const { budgets, filter, route } = filtering;
      const wait = Math.max(...budgets.map((budget) => budget.wait()));
      if (wait > 0) {
        deps.metrics.limitsReached.inc({ limit: "tool_list_work" });
        await delay(wait);
      }
      if (stream.destroyed) return;
      const startedAt = performance.now();
      const filtered = filter.filter(body, isLast);
      held ??= hold(route.id, abort);
      const fits = held.set(filter.held(), filtered.ok && filtered.body.length > 0);
      if (!fits) deps.metrics.limitsReached.inc({ limit: "tool_list_bytes" });
      if (filtered.ok && fits) {
        const bodyMutation = { body: Buffer.from(filtered.body) };
        const answer: ProcessingResponse =
          filtered.body === body ? { responseBody: {} } : { responseBody: { response: { bodyMutation } } };
        const ends = isLast || filter.done();
        if (waiting && !ends && filtered.body.length === 0) waiting.push(answer);
        else {
          releaseHead();
          if (ends) last(answer);
          else stream.write(answer);
        }
      } else {
        const elsewhere = !filtered.ok && "reason" in filtered;
        if (elsewhere)
          deps.logger.warn(
            { route: route.id, requestId: filtering.requestId },
            "an endpoint event of an upstream's stream leads to a host other than those of to and from, or to a path of another route, or cannot be parsed",
          );
        if (elsewhere && waiting) {
          waiting = undefined;
          last(endpointElsewhere(filtering));
        } else abort();
      }
      const used = performance.now() - startedAt + messageMs;
      for (const budget of budgets) budget.spend(used);
    };
    const answerTo = async (message: ProcessingRequest) => {
      if (message.request === "responseHeaders") {
        const answer = await answerToHeaders(message, () => {
          if (peer === "missing") provenByMessage(stream.metadata);
        });
        filtering = answer.filtering;
        if (filtering?.watchedFor !== undefined && watchedFor === undefined && !stream.destroyed) {
          watchedFor = filtering.watchedFor;
          count(watchedFor, 1);
        }
        if (filtering?.holdsHead) {
          waiting = [answer.response];
          late = setTimeout(releaseHead, deps.routes().config.check.deadlineMs);
        } else if (filtering) stream.write(answer.response);
        else last(answer.response);
      } else if (message.request === "responseBody" && filtering) {
        const { body = Buffer.alloc(0), endOfStream = false } = message.responseBody ?? {};
        await filterBody(body, endOfStream, filtering);
      } else if (message.request === "responseTrailers" && filtering && filtering.filter.held() > 0) {
        // No body message follows that could carry the held bytes.
        deps.logger.warn(
          { requestId: filtering.requestId },
          "a list of tools with trailers cannot be filtered",
        );
        abort();
      } else if (message.request) {
        // Envoy is configured to send more than necessary: pass it on unchanged.
        releaseHead();
        stream.write({ [message.request]: {} });
      }
    };
    stream.on("data", (message: ProcessingRequest) => {
      // An unauthenticated peer must send response headers; other messages pass unchanged.
      if (peer === "proven" || message.request === "responseHeaders") clearTimeout(silent);
      // One message at a time, interleaved with other streams: unread messages cause backpressure on Envoy and the upstream.
      stream.pause();
      answerTo(message)
        // Envoy answers 503 instead of passing an uninspected response.
        .catch((error: unknown) => {
          deps.metrics.errors.inc({ component: "ext-proc", code: "internal" });
          deps.logger.error({ err: error }, "processing an upstream's response failed");
          stream.emit("error", { code: status.INTERNAL, details: "internal" });
        })
        .finally(() => setImmediate(() => stream.resume()));
    });
    stream.on("end", () => stream.end());
    // Envoy resets the stream when its client disconnects.
    stream.on("error", (error: { message?: string; details?: string }) =>
      deps.logger.debug({ reason: error.details ?? error.message }, "an ext_proc stream was reset"),
    );
  }

  return { admits: "unproven", definition: externalProcessor(), implementation: { Process: process } };
}

/** About 25 KiB each, which a silent server could hold indefinitely; an eighth per user. */
export const maxWatchedStreams = 4_096;

interface Answer {
  readonly response: ProcessingResponse;
  readonly filtering?: Filtering;
}

/** Cookies of a response that is not rewritten are removed: they would apply to the whole host. */
function mcpCookies({ setCookies }: UpstreamResponse): readonly string[] {
  return setCookies.length > 0 ? ["set-cookie"] : [];
}

function isEventStream({ status, headers }: UpstreamResponse): boolean {
  // As lenient as clients: a response that a client treats as a stream must be inspected as one.
  const type = headers["content-type"]?.trim().toLowerCase() ?? "";
  return status >= 200 && status < 300 && type.startsWith("text/event-stream");
}

/** Without path and query, which may contain a secret. */
function hostOf(location: string): string {
  const url = URL.parse(location, "https://unknown.invalid");
  return url === null ? "invalid URL" : `${url.protocol}//${url.host}`.slice(0, 256);
}

function isEncoded({ headers }: UpstreamResponse): boolean {
  return (headers["content-encoding"]?.trim().toLowerCase() ?? "identity") !== "identity";
}

/** The same in all cases, so that a forged message reveals nothing. */
const unproven: Answer = {
  response: immediate(
    unavailable("", 1, "the server's response cannot be matched with a check of its request; try again"),
    "unproven_metadata",
  ),
};
