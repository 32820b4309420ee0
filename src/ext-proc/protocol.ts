import { join } from "node:path";
import { loadPackageDefinition, type ServiceDefinition } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import type { PeerAuthentication } from "../config/listeners.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import type { MetadataProofs } from "../external-tokens/metadata-proofs.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { UpstreamTokens } from "../upstream-tokens/upstream-tokens.ts";

/** The fields of `envoy.service.ext_proc.v3.ProcessingRequest` that we read. */
export interface ProcessingRequest {
  readonly request?:
    | "requestHeaders"
    | "responseHeaders"
    | "requestBody"
    | "responseBody"
    | "requestTrailers"
    | "responseTrailers";
  readonly responseHeaders?: {
    readonly headers?: {
      readonly headers?: readonly {
        readonly key?: string;
        readonly value?: string;
        readonly rawValue?: Buffer;
      }[];
    };
  };
  readonly responseBody?: { readonly body?: Buffer; readonly endOfStream?: boolean };
  /** In the first message only. */
  readonly protocolConfig?: { readonly sendBodyWithoutWaitingForHeaderResponse?: boolean };
  readonly metadataContext?: {
    readonly filterMetadata?: Readonly<
      Record<
        string,
        {
          readonly fields?: Readonly<
            Record<string, { readonly stringValue?: string; readonly numberValue?: number } | undefined>
          >;
        }
      >
    >;
  };
}

/** The fields of `envoy.service.ext_proc.v3.ProcessingResponse` that we write. */
export interface ProcessingResponse {
  readonly requestHeaders?: Record<string, never>;
  readonly responseHeaders?: {
    readonly response?: {
      readonly headerMutation: {
        readonly removeHeaders: readonly string[];
        readonly setHeaders?: readonly {
          readonly header: { readonly key: string; readonly rawValue: Buffer };
          readonly append: { readonly value: true };
        }[];
      };
    };
  };
  readonly requestBody?: Record<string, never>;
  readonly responseBody?: { readonly response?: { readonly bodyMutation: { readonly body: Buffer } } };
  readonly requestTrailers?: Record<string, never>;
  readonly responseTrailers?: Record<string, never>;
  /** How Envoy processes the rest of this response. */
  readonly modeOverride?: {
    readonly responseHeaderMode: "SEND";
    readonly responseBodyMode: "STREAMED";
    readonly responseTrailerMode: "SEND";
  };
  readonly immediateResponse?: {
    readonly status: { readonly code: number };
    readonly headers: {
      readonly setHeaders: readonly {
        readonly header: { readonly key: string; readonly rawValue: Buffer };
        readonly appendAction: "OVERWRITE_IF_EXISTS_OR_ADD";
      }[];
    };
    readonly body: Buffer;
    /** Appears in Envoy's access log as `%RESPONSE_CODE_DETAILS%`. */
    readonly details: string;
  };
}

const proto = join(import.meta.dirname, "..", "..", "proto");
let definition: ServiceDefinition | undefined;

/** Definition of `envoy.service.ext_proc.v3.ExternalProcessor`, read once from `proto/`. */
export function externalProcessor(): ServiceDefinition {
  if (definition) return definition;
  const root = loadPackageDefinition(
    loadSync("envoy/service/ext_proc/v3/external_processor.proto", {
      includeDirs: [proto],
      longs: Number,
      enums: String,
      defaults: false,
      oneofs: true,
    }),
  );
  const found = ["envoy", "service", "ext_proc", "v3", "ExternalProcessor"].reduce<unknown>(
    (at, name) =>
      at && (typeof at === "object" || typeof at === "function") ? Reflect.get(at, name) : undefined,
    root,
  );
  const service = typeof found === "function" && "service" in found ? found.service : undefined;
  if (!isServiceDefinition(service))
    throw new Error("proto/ does not define envoy.service.ext_proc.v3.ExternalProcessor");
  definition = service;
  return service;
}

function isServiceDefinition(value: unknown): value is ServiceDefinition {
  return typeof value === "object" && value !== null && "Process" in value;
}

/** Dependencies of the external processor. */
export interface ExternalProcessorDeps {
  readonly routes: CurrentRoutes;
  /** Decides how to respond to an upstream's 401 or 403, and refreshes the token where that helps. */
  readonly upstreamTokens: Pick<UpstreamTokens, "handleRejection">;
  /** Whether a call comes from Envoy. */
  readonly peers: PeerAuthentication;
  /** Verifies that the metadata comes from one of our checks. */
  readonly metadataProofs: Pick<MetadataProofs, "verify" | "spend" | "proveUpstreamPath" | "cookiePrefixes">;
  /** Maximum number of concurrent streams that may be legacy streams; the next one gets 503. */
  readonly maxWatchedStreams: number;
  readonly logger: Logger;
  readonly metrics: Metrics;
}
