import type { ServerDuplexStream, ServiceDefinition, UntypedServiceImplementation } from "@grpc/grpc-js";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { externalProcessor, type ProcessingRequest, type ProcessingResponse } from "./external-processor.ts";
import { type UpstreamResponse, upstreamResponse } from "./upstream-response.ts";

/** What the client gets in place of the upstream's answer. */
export interface Replacement {
  readonly status: number;
  /** Lower-case names. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: string;
  /** Stable machine word: the metric's `outcome`. */
  readonly outcome: string;
}

export interface ChallengeDeps {
  /**
   * What becomes of an upstream's 401 or 403; undefined: it goes to the client untouched. Whatever it throws
   * turns into 503, for the upstream's own challenge would send the client to the wrong authorization server.
   */
  readonly replacementFor: (response: UpstreamResponse) => Promise<Replacement | undefined>;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/**
 * The ext_proc service (`envoy.service.ext_proc.v3.ExternalProcessor`): looks at the head of upstream answers
 * that `check/` let through, and replaces 401 and 403 where the client can repair them (F4.6). It never sees a
 * body, and ends its stream after the one message it needs, so that a long event stream does not hold up draining.
 */
export function createChallengeService(deps: ChallengeDeps): {
  readonly definition: ServiceDefinition;
  readonly implementation: UntypedServiceImplementation;
} {
  const { replacementFor, logger, metrics } = deps;

  async function answerToHeaders(message: ProcessingRequest): Promise<ProcessingResponse> {
    const response = upstreamResponse(message);
    if (!response || (response.status !== 401 && response.status !== 403)) return { responseHeaders: {} };
    const status = String(response.status);
    try {
      const replacement = await replacementFor(response);
      metrics.challenges.inc({ status, outcome: replacement?.outcome ?? "untouched" });
      return replacement ? immediate(replacement) : { responseHeaders: {} };
    } catch (error) {
      metrics.challenges.inc({ status, outcome: "failed" });
      logger.error(
        { err: error, route: response.metadata.route, requestId: response.requestId },
        "cannot decide on an upstream's refusal",
      );
      return immediate(unavailable);
    }
  }

  function process(stream: ServerDuplexStream<ProcessingRequest, ProcessingResponse>): void {
    stream.on("data", (message: ProcessingRequest) => {
      if (message.request !== "responseHeaders") {
        // Envoy is configured to send more than we need: wave it through.
        if (message.request) stream.write({ [message.request]: {} });
        return;
      }
      void answerToHeaders(message).then((answer) => {
        stream.write(answer);
        stream.end();
      });
    });
    stream.on("end", () => stream.end());
    // Envoy resets the stream when its client has gone; there is nobody left to tell.
    stream.on("error", (error) => logger.debug({ err: error }, "an ext_proc stream was reset"));
  }

  return { definition: externalProcessor(), implementation: { Process: process } };
}

const unavailable: Replacement = {
  status: 503,
  headers: [
    ["content-type", "application/json"],
    ["cache-control", "no-store"],
    ["retry-after", "1"],
  ],
  body: JSON.stringify({
    error: "temporarily_unavailable",
    error_description: "The gateway could not look up its authorization for this server. Try again.",
  }),
  outcome: "failed",
};

function immediate(replacement: Replacement): ProcessingResponse {
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
      details: `envoy_mcp_auth_${replacement.outcome}`,
    },
  };
}
