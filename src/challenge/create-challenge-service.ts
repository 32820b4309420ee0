import {
  type ServerDuplexStream,
  type ServiceDefinition,
  status,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { answerRefusal } from "./answer-refusal.ts";
import type { ChallengeDeps } from "./challenge-deps.ts";
import { externalProcessor, type ProcessingRequest, type ProcessingResponse } from "./external-processor.ts";
import { withoutOwnSetCookies } from "./own-set-cookies.ts";
import { giveUp, type Replacement } from "./replacement.ts";
import { type FilterTools, filterTools } from "./tools-answer.ts";
import { upstreamResponse } from "./upstream-response.ts";

/**
 * The ext_proc service (`envoy.service.ext_proc.v3.ExternalProcessor`): looks at the head of upstream answers
 * that `check/` let through, and replaces 401 and 403 where the client can repair them (F4.6). Bodies it sees
 * only where `check/` has asked for a list of tools to be filtered (F8.15). It ends its stream after the last
 * message it needs, so that a long event stream does not hold up draining. Envoy's matcher
 * (docs/upstream-oauth.md) wakes it for these answers only; it is right without the matcher, too.
 */
export function createChallengeService(deps: ChallengeDeps): {
  readonly definition: ServiceDefinition;
  readonly implementation: UntypedServiceImplementation;
} {
  async function answerToHeaders(message: ProcessingRequest): Promise<Answer> {
    const response = upstreamResponse(message);
    if (!response) return untouched;
    const { metadata } = response;
    const route = deps.routes().byId(metadata.route);
    if (!route || !metadata.user) return untouched;
    if (response.status === 401 || response.status === 403) {
      const answer = await answerRefusal(
        deps,
        response,
        response.status,
        route,
        metadata.owner ?? metadata.user,
      );
      return answer ? { response: immediate(answer.replacement, answer.outcome) } : untouched;
    }
    const filter = metadata.toolFilter === undefined ? "none" : filterTools(response, metadata.toolFilter);
    if (filter === "none") return untouched;
    if (filter === "unreadable") return { response: unreadable(metadata.requestId) };
    return {
      response: {
        responseHeaders: { response: { headerMutation: { removeHeaders: ["content-length"] } } },
        modeOverride: {
          responseHeaderMode: "SEND",
          responseBodyMode: filter.whole ? "BUFFERED" : "STREAMED",
        },
      },
      filter,
      requestId: metadata.requestId,
    };
  }

  function process(stream: ServerDuplexStream<ProcessingRequest, ProcessingResponse>): void {
    let filter: FilterTools | undefined;
    let requestId = "";
    const last = (answer: ProcessingResponse) => {
      stream.write(answer);
      stream.end();
    };
    stream.on("data", (message: ProcessingRequest) => {
      if (message.request === "responseHeaders") {
        answerToHeaders(message).then(
          (answer) => {
            filter = answer.filter;
            requestId = answer.requestId ?? "";
            const response = withoutOwnSetCookies(message, answer.response);
            if (filter) stream.write(response);
            else last(response);
          },
          // Nobody foresaw it: Envoy answers 503 in place of an answer nobody has looked at.
          (error: unknown) => {
            deps.metrics.errors.inc({ room: "challenge", code: "internal" });
            deps.logger.error({ err: error }, "an upstream's answer could not be looked at");
            stream.emit("error", { code: status.INTERNAL, details: "internal" });
          },
        );
      } else if (message.request === "responseBody" && filter) {
        const { body = Buffer.alloc(0), endOfStream = false } = message.responseBody ?? {};
        const filtered = filter.filter(body, endOfStream);
        if (filtered.ok) {
          const answer = {
            responseBody: { response: { bodyMutation: { body: Buffer.from(filtered.body) } } },
          };
          if (endOfStream) last(answer);
          else stream.write(answer);
        } else if (filter.whole) last(unreadable(requestId));
        // The head may be with the client already: Envoy breaks the answer off when we do.
        else stream.emit("error", { code: status.INTERNAL, details: "a list of tools that cannot be read" });
      } else if (message.request) {
        // Envoy is configured to send more than we need: wave it through.
        stream.write({ [message.request]: {} });
      }
    });
    stream.on("end", () => stream.end());
    // Envoy resets the stream when its client has gone; there is nobody left to tell.
    stream.on("error", (error: { message?: string; details?: string }) =>
      deps.logger.debug({ reason: error.details ?? error.message }, "an ext_proc stream was reset"),
    );
  }

  return { definition: externalProcessor(), implementation: { Process: process } };
}

interface Answer {
  readonly response: ProcessingResponse;
  readonly filter?: FilterTools;
  readonly requestId?: string;
}

const untouched: Answer = { response: { responseHeaders: {} } };

/** It might list tools that the caller may not see, and nobody can tell (F8.15). */
function unreadable(requestId: string): ProcessingResponse {
  const message = "the server's list of tools cannot be read, so what may not be seen cannot be taken out";
  return immediate(giveUp(requestId, 502, "tools_list_unreadable", message), "tools_list_unreadable");
}

function immediate(replacement: Replacement, outcome: string): ProcessingResponse {
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
