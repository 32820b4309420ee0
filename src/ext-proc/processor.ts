import { setTimeout as delay } from "node:timers/promises";
import {
  type ServerDuplexStream,
  type ServiceDefinition,
  status,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { provenByMessage, shownBy } from "../config/listeners.ts";
import { boundedCache } from "../util/bounded-cache.ts";
import { type HeldBytes, heldBytes, type WorkBudget, workBudget } from "./budgets.ts";
import { rewriteEndpoints } from "./endpoint-events.ts";
import {
  encodedStream,
  endpointElsewhere,
  type Filtering,
  immediate,
  redirectElsewhere,
  tooManyStreams,
  unreadable,
} from "./own-responses.ts";
import {
  type ExternalProcessorDeps,
  externalProcessor,
  type ProcessingRequest,
  type ProcessingResponse,
} from "./protocol.ts";
import { headMutation, rewrittenEndpoint, rewrittenHead, withoutOwnSetCookies } from "./response-headers.ts";
import { filterTools, inTurn } from "./tool-list.ts";
import { answerRejection, unavailable } from "./upstream-rejection.ts";
import { type UpstreamResponse, upstreamResponse } from "./upstream-response.ts";

/** What filtering may take of the one thread's time: the answer of one request, and all of one route. */
const streamShare = 0.02;
const streamBurstMs = 100;
const routeShare = 0.2;
const routeBurstMs = 400;
/** What a message costs beside our own work: an upstream that sends single bytes makes one of each. ms. */
const messageMs = 0.25;

/** Envoy opens a stream as it has something to say; who has not proven to be Envoy, as it has an upstream's answer. ms. */
const firstMessageMs = 10_000;

/**
 * The ext_proc service (`envoy.service.ext_proc.v3.ExternalProcessor`): looks at the head of upstream answers
 * that `check/` let through, replaces 401 and 403 where the client can repair them, and rewrites addresses and cookies of MCP servers.
 * Bodies it sees only where `check/` has asked for a list of tools to be filtered, and of a stream that may be a legacy one, until it
 * ends: an endpoint may be named again at any time. In other cases it ends its stream after the last message it needs. Envoy's
 * matcher (docs/upstream-oauth.md) wakes it for these answers only; it is right without the matcher, too. It acts only on metadata with
 * the proof of a check of ours; whatever else a caller says changes nothing.
 */
export function createExternalProcessor(deps: ExternalProcessorDeps): {
  readonly definition: ServiceDefinition;
  readonly implementation: UntypedServiceImplementation;
  readonly admits: "unproven";
} {
  const hold = heldBytes();
  /** Streams that may be legacy ones, which are looked at until they end. */
  let watched = 0;
  const watchedOf = new Map<string, number>();
  const mostOfOne = Math.ceil(deps.maxWatchedStreams / 8);
  function count(user: string, change: 1 | -1): void {
    watched += change;
    const now = (watchedOf.get(user) ?? 0) + change;
    if (now > 0) watchedOf.set(user, now);
    else watchedOf.delete(user);
  }
  /** What the answers of one upstream may use together. */
  const budgets = boundedCache<string, WorkBudget>(10_000);
  function budgetOf(routeId: string): WorkBudget {
    const known = budgets.get(routeId);
    if (known) return known;
    const made = workBudget(routeShare, routeBurstMs);
    budgets.set(routeId, made);
    return made;
  }

  async function answerToHeaders(message: ProcessingRequest, onProven: () => void): Promise<Answer> {
    const response = upstreamResponse(message);
    if (!response) return { response: withoutOwnSetCookies(message) };
    const { metadata } = response;
    const refusal = response.status === 401 || response.status === 403;
    const stream = isEventStream(response) && metadata.firstEvent;
    // An answer that would be judged or rewritten is held back; another passes as it is.
    const judged = refusal || metadata.toolFilter !== undefined || response.location.length > 0 || stream;
    const untouched = { response: headMutation({ remove: mcpCookies(response), set: [] }) };
    if (!deps.metadataProofs.verify(response.toProve, response.proof)) {
      deps.peers.refused();
      return judged ? unproven : untouched;
    }
    onProven();
    const table = deps.routes();
    const current = table.byId(metadata.route);
    // A route that is gone judges nothing any more.
    if (!current || !metadata.user) return judged ? unproven : untouched;
    if (response.status === 401 || response.status === 403) {
      // One request has one answer: a second one to it is a replay.
      if (response.proof === undefined || !deps.metadataProofs.spend(response.proof)) {
        deps.peers.refused();
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
    // What it says of addresses is read with the upstream it comes from; a former one says nothing about those of its successor.
    const leading = table.leadingTo(current, metadata.upstream);
    const former = leading === undefined && metadata.upstream !== undefined;
    if (former && (stream || response.location.length > 0)) return unproven;
    const route = leading ?? current;
    const places = { table, metadataProofs: deps.metadataProofs, userId: metadata.user };
    const head = rewrittenHead(places, response, route);
    if ("elsewhere" in head) {
      const line = { route: route.id, requestId: metadata.requestId, leadsTo: hostOf(head.elsewhere) };
      deps.logger.warn(
        line,
        "an upstream's redirect leads to another host than those of to and from, or to another route's place",
      );
      return { response: redirectElsewhere(metadata.requestId) };
    }
    const { toolListBytes } = table.config.limits;
    const tools =
      metadata.toolFilter === undefined || refusal
        ? "none"
        : filterTools(response, metadata.toolFilter, toolListBytes);
    if (tools === "unreadable") return { response: unreadable(metadata.requestId) };
    if (stream && isEncoded(response)) return { response: encodedStream(metadata.requestId) };
    // Of one person's an eighth: they must not take what is for all.
    if (stream && (watched >= deps.maxWatchedStreams || (watchedOf.get(metadata.user) ?? 0) >= mostOfOne)) {
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
        // Never BUFFERED: when the body does not arrive in one read, Envoy then never reads the rest.
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
        // The body comes without waiting for our answer to the head: what its beginning says can still become the status.
        holdsHead:
          first !== undefined && message.protocolConfig?.sendBodyWithoutWaitingForHeaderResponse === true,
        budgets: [workBudget(streamShare, streamBurstMs), budgetOf(route.id)],
      },
    };
  }

  function process(stream: ServerDuplexStream<ProcessingRequest, ProcessingResponse>): void {
    // A gateway that cannot add the secret here is let in by the proof in its first message.
    const peer = deps.peers.judge(shownBy(stream.metadata));
    if (peer === "wrong") {
      deps.peers.refused();
      stream.emit("error", { code: status.UNAUTHENTICATED, details: "the caller is not Envoy" });
      return;
    }
    let filtering: Filtering | undefined;
    const silent = setTimeout(
      () => stream.emit("error", { code: status.DEADLINE_EXCEEDED, details: "no answer has come" }),
      firstMessageMs,
    );
    /** What waits of this answer; undefined while nothing is filtered. */
    let held: HeldBytes | undefined;
    /** The answer to the head, while the first event may still change it, and to the pieces that have come since. */
    let waiting: ProcessingResponse[] | undefined;
    let late: NodeJS.Timeout | undefined;
    /** Whose stream is watched, once it is counted. */
    let watchedFor: string | undefined;
    const letHeadGo = () => {
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
    /** The head may be with the client already: Envoy breaks the answer off when we do. */
    const breakOff = () =>
      stream.emit("error", { code: status.INTERNAL, details: "what cannot be read does not pass" });
    const last = (answer: ProcessingResponse) => {
      stream.write(answer);
      stream.end();
    };
    /** Filters the next piece of a body, when its stream and its route have not used up their share. */
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
      held ??= hold(route.id, breakOff);
      const fits = held.set(filter.held(), filtered.ok && filtered.body.length > 0);
      if (!fits) deps.metrics.limitsReached.inc({ limit: "tool_list_bytes" });
      if (filtered.ok && fits) {
        const bodyMutation = { body: Buffer.from(filtered.body) };
        const answer: ProcessingResponse =
          filtered.body === body ? { responseBody: {} } : { responseBody: { response: { bodyMutation } } };
        const ends = isLast || filter.done();
        if (waiting && !ends && filtered.body.length === 0) waiting.push(answer);
        else {
          letHeadGo();
          if (ends) last(answer);
          else stream.write(answer);
        }
      } else {
        const elsewhere = !filtered.ok && "reason" in filtered;
        if (elsewhere)
          deps.logger.warn(
            { route: route.id, requestId: filtering.requestId },
            "an endpoint event of an upstream's stream leads to another host than those of to and from, or to another route's place, or cannot be read",
          );
        if (elsewhere && waiting) {
          waiting = undefined;
          last(endpointElsewhere(filtering));
        } else breakOff();
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
          late = setTimeout(letHeadGo, deps.routes().config.check.deadlineMs);
        } else if (filtering) stream.write(answer.response);
        else last(answer.response);
      } else if (message.request === "responseBody" && filtering) {
        const { body = Buffer.alloc(0), endOfStream = false } = message.responseBody ?? {};
        await filterBody(body, endOfStream, filtering);
      } else if (message.request === "responseTrailers" && filtering && filtering.filter.held() > 0) {
        // No message of a body follows with which the rest could go out.
        deps.logger.warn(
          { requestId: filtering.requestId },
          "a list of tools that is followed by trailers cannot be filtered",
        );
        breakOff();
      } else if (message.request) {
        // Envoy is configured to send more than we need: wave it through.
        letHeadGo();
        stream.write({ [message.request]: {} });
      }
    };
    stream.on("data", (message: ProcessingRequest) => {
      // Until then nobody has proven anything, and other messages pass unchanged.
      if (peer === "proven" || message.request === "responseHeaders") clearTimeout(silent);
      // One message at a time, and others' in between: what is not read stays with Envoy, and so with the upstream.
      stream.pause();
      answerTo(message)
        // Nobody foresaw it: Envoy answers 503 in place of an answer nobody has looked at.
        .catch((error: unknown) => {
          deps.metrics.errors.inc({ component: "ext-proc", code: "internal" });
          deps.logger.error({ err: error }, "an upstream's answer could not be looked at");
          stream.emit("error", { code: status.INTERNAL, details: "internal" });
        })
        .finally(() => setImmediate(() => stream.resume()));
    });
    stream.on("end", () => stream.end());
    // Envoy resets the stream when its client has gone; there is nobody left to tell.
    stream.on("error", (error: { message?: string; details?: string }) =>
      deps.logger.debug({ reason: error.details ?? error.message }, "an ext_proc stream was reset"),
    );
  }

  return { admits: "unproven", definition: externalProcessor(), implementation: { Process: process } };
}

/** Some 25 KiB each, which a server that says nothing could have us keep for any time; of one person an eighth. */
export const maxWatchedStreams = 4_096;

interface Answer {
  readonly response: ProcessingResponse;
  readonly filtering?: Filtering;
}

/** Of an answer of an MCP server that is not rewritten, cookies do not pass: they would be the host's. */
function mcpCookies({ setCookies }: UpstreamResponse): readonly string[] {
  return setCookies.length > 0 ? ["set-cookie"] : [];
}

function isEventStream({ status, headers }: UpstreamResponse): boolean {
  // As liberally as the readers of such streams: what one of them takes for a stream must not pass as something else.
  const type = headers["content-type"]?.trim().toLowerCase() ?? "";
  return status >= 200 && status < 300 && type.startsWith("text/event-stream");
}

/** Without its path and query, which may hold a secret. */
function hostOf(location: string): string {
  const url = URL.parse(location, "https://unknown.invalid");
  return url === null ? "no URL" : `${url.protocol}//${url.host}`.slice(0, 256);
}

function isEncoded({ headers }: UpstreamResponse): boolean {
  return (headers["content-encoding"]?.trim().toLowerCase() ?? "identity") !== "identity";
}

/** The same to everybody: whoever has made the message up learns nothing. */
const unproven: Answer = {
  response: immediate(
    unavailable("", 1, "the server's answer cannot be matched with a check of its request; try again"),
    "unproven_metadata",
  ),
};
