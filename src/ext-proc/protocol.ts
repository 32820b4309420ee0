import { join } from "node:path";
import { loadPackageDefinition, type ServiceDefinition } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import type { PeerAuthentication } from "../config/listeners.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import {
  type MetadataProofs,
  type ProvenMetadata,
  provenFields,
} from "../external-tokens/metadata-proofs.ts";
import type { JsonRpcId } from "../policy/policy.ts";
import type { ElicitationSessions } from "../store/elicitation-sessions.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { UpstreamTokens } from "../upstream-tokens/upstream-tokens.ts";
import { packageFolder } from "../util/package.ts";

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
          readonly fields?: Readonly<Record<string, MetadataValue | undefined>>;
        }
      >
    >;
  };
}

/** A `google.protobuf.Value`, as far as we read it. */
export interface MetadataValue {
  readonly stringValue?: string;
  readonly numberValue?: number;
  readonly structValue?: { readonly fields?: Readonly<Record<string, MetadataValue | undefined>> };
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

const proto = join(packageFolder, "proto");
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
  readonly store: { readonly elicitationSessions: Pick<ElicitationSessions, "record"> };
  /** Verifies that the metadata comes from one of our checks. */
  readonly metadataProofs: Pick<
    MetadataProofs,
    "verify" | "spend" | "signHeader" | "proveUpstreamPath" | "cookiePrefixes"
  >;
  /** Maximum number of concurrent streams that may be legacy streams; the next one gets 503. */
  readonly maxWatchedStreams: number;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/** An upstream's response to a request that a check allowed, and the metadata that the check left. */
export interface UpstreamResponse {
  readonly status: number;
  /** All `WWW-Authenticate` values as received; each may contain several challenges. */
  readonly wwwAuthenticate: readonly string[];
  /** Other relevant headers, names in lower case; the last of several with one name. */
  readonly headers: Readonly<Record<string, string>>;
  /** All `Location` values as received: there should be one. */
  readonly location: readonly string[];
  /** All `Set-Cookie` values as received, one character per byte. */
  readonly setCookies: readonly string[];
  /** RFC 9449 section 8.2. */
  readonly dpopNonce?: string;
  readonly metadata: {
    readonly route: string;
    /** `Route.upstreamHash` of the upstream that responds. */
    readonly upstream?: string;
    readonly user?: string;
    /** User id of the connection's owner, where it is not the user. */
    readonly owner?: string;
    /** Path of the client's MCP endpoint below the route. */
    readonly endpoint?: string;
    /** The user is a service account. */
    readonly serviceAccount: boolean;
    readonly connection?: string;
    readonly version?: number;
    /** The client can refresh its external token. */
    readonly refreshable: boolean;
    /** Path the client requested, without query. */
    readonly path: string;
    readonly requestId: string;
    /** Policy's filter for tool lists in the response. */
    readonly toolFilter?: string;
    /** Id of the `tools/list` request. Not proven; neither are the next three. */
    readonly listId?: JsonRpcId;
    readonly firstEvent: boolean;
    /** The response may start a session of a client that can be asked for consent inside a call. */
    readonly newSession: boolean;
    readonly cookies?: string;
  };
  /** The same fields as received, to be verified with `proof`. */
  readonly toProve: ProvenMetadata;
  readonly proof?: string;
}

function readId(text: string | undefined): JsonRpcId | undefined {
  if (text === undefined || text.length > 2048) return undefined;
  try {
    const id: unknown = JSON.parse(text);
    return typeof id === "string" || typeof id === "number" ? id : undefined;
  } catch {
    return undefined;
  }
}

/** The namespace of ext_authz's dynamic metadata. */
const namespace = "envoy.filters.http.ext_authz";

/**
 * Reads a response-headers message. Do not trust its content before its proof is verified. Undefined without our metadata: then
 * no check allowed the request, and this is a local reply (ours or Envoy's) or another filter chain's traffic.
 */
export function upstreamResponse(message: ProcessingRequest): UpstreamResponse | undefined {
  const fields = message.metadataContext?.filterMetadata?.[namespace]?.fields;
  const route = fields?.route?.stringValue;
  if (!fields || !route) return undefined;
  // A later version sends `service_account` alone, with the same proof: a MAC covers values in their order, not names.
  const machine = fields.machine ?? fields.service_account;
  const proven: typeof fields = { ...fields, machine };
  let status = 0;
  let dpopNonce: string | undefined;
  const headers: Record<string, string> = {};
  const wwwAuthenticate: string[] = [];
  const location: string[] = [];
  const setCookies: string[] = [];
  for (const { key = "", value, rawValue } of message.responseHeaders?.headers?.headers ?? []) {
    // Envoy sends raw bytes; its documentation also allows a string.
    const text = rawValue?.length ? rawValue.toString("latin1") : (value ?? "");
    if (key === ":status") status = Number(text);
    else if (key === "www-authenticate") wwwAuthenticate.push(text);
    else if (key === "location") location.push(text);
    else if (key === "set-cookie") setCookies.push(text);
    else if (key === "dpop-nonce") dpopNonce = text;
    else if (key.startsWith("content-") || key === "mcp-session-id") headers[key] = text;
  }
  return {
    status,
    wwwAuthenticate,
    headers,
    location,
    setCookies,
    dpopNonce,
    metadata: {
      route,
      upstream: fields.upstream?.stringValue,
      user: fields.user?.stringValue,
      owner: fields.owner?.stringValue,
      endpoint: fields.endpoint?.stringValue,
      serviceAccount: machine?.numberValue === 1,
      connection: fields.connection?.stringValue,
      version: fields.version?.numberValue,
      refreshable: fields.refreshable?.numberValue === 1,
      path: fields.path?.stringValue ?? "/",
      requestId: fields.request_id?.stringValue ?? "",
      toolFilter: fields.tool_filter?.stringValue,
      listId: readId(fields.list_id?.stringValue),
      firstEvent: fields.first_event?.stringValue !== undefined,
      newSession: fields.new_session?.stringValue !== undefined,
      cookies: fields.cookies?.stringValue,
    },
    toProve: Object.fromEntries(
      provenFields.map((name) => [name, proven[name]?.stringValue ?? proven[name]?.numberValue]),
    ),
    proof: fields.proof?.stringValue,
  };
}
