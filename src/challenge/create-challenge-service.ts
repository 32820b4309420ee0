import type { ServerDuplexStream, ServiceDefinition, UntypedServiceImplementation } from "@grpc/grpc-js";
import { answerRefusal } from "./answer-refusal.ts";
import type { ChallengeDeps } from "./challenge-deps.ts";
import { externalProcessor, type ProcessingRequest, type ProcessingResponse } from "./external-processor.ts";
import type { Replacement } from "./replacement.ts";
import { upstreamResponse } from "./upstream-response.ts";

/**
 * The ext_proc service (`envoy.service.ext_proc.v3.ExternalProcessor`): looks at the head of upstream answers
 * that `check/` let through, and replaces 401 and 403 where the client can repair them (F4.6). It ends its stream
 * after the one message it needs, so that a long event stream does not hold up draining. Envoy's matcher
 * (docs/upstream-oauth.md) wakes it for 401 and 403 only; it is right without the matcher, too.
 */
export function createChallengeService(deps: ChallengeDeps): {
  readonly definition: ServiceDefinition;
  readonly implementation: UntypedServiceImplementation;
} {
  async function answerTo(message: ProcessingRequest): Promise<ProcessingResponse> {
    const response = upstreamResponse(message);
    if (!response) return untouched;
    const { status, metadata } = response;
    const route = deps.routes().byId(metadata.route);
    if ((status !== 401 && status !== 403) || !route || !metadata.user) return untouched;
    const answer = await answerRefusal(deps, { ...response, status }, route, metadata.user);
    return answer ? immediate(answer.replacement, answer.outcome) : untouched;
  }

  function process(stream: ServerDuplexStream<ProcessingRequest, ProcessingResponse>): void {
    stream.on("data", (message: ProcessingRequest) => {
      if (message.request !== "responseHeaders") {
        // Envoy is configured to send more than we need: wave it through.
        if (message.request) stream.write({ [message.request]: {} });
        return;
      }
      void answerTo(message).then((answer) => {
        stream.write(answer);
        stream.end();
      });
    });
    stream.on("end", () => stream.end());
    // Envoy resets the stream when its client has gone; there is nobody left to tell.
    stream.on("error", (error) =>
      deps.logger.debug({ reason: error.message }, "an ext_proc stream was reset"),
    );
  }

  return { definition: externalProcessor(), implementation: { Process: process } };
}

const untouched: ProcessingResponse = { responseHeaders: {} };

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
