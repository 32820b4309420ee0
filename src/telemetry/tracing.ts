import type {
  Metadata,
  ServiceDefinition,
  UntypedHandleCall,
  UntypedServiceImplementation,
} from "@grpc/grpc-js";
import {
  type Attributes,
  context,
  propagation,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  trace,
} from "@opentelemetry/api";
import type { Middleware } from "koa";

/** Trace export. */
export interface Tracing {
  readonly tracer: Tracer;
  /** Exports the ended spans, then stops. */
  close(): Promise<void>;
}

/**
 * Starts OpenTelemetry if `OTEL_EXPORTER_OTLP_ENDPOINT` (or `..._TRACES_ENDPOINT`) is set, with OTLP over gRPC as in Envoy.
 * `OTEL_SERVICE_NAME`, `OTEL_EXPORTER_OTLP_HEADERS` and the other variables have their usual meaning. Without an endpoint, nothing is
 * loaded and no spans are created. Traces started by Envoy are continued with Envoy's sampling decision; new traces are always sampled.
 */
export async function startTracing(
  env: Readonly<Record<string, string | undefined>>,
): Promise<Tracing | undefined> {
  const endpoint = env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT || env.OTEL_EXPORTER_OTLP_ENDPOINT;
  if (!endpoint || env.OTEL_SDK_DISABLED === "true") return undefined;
  const [sdk, { OTLPTraceExporter }, { AsyncLocalStorageContextManager }, core, resources] =
    await Promise.all([
      import("@opentelemetry/sdk-trace"),
      import("@opentelemetry/exporter-trace-otlp-grpc"),
      import("@opentelemetry/context-async-hooks"),
      import("@opentelemetry/core"),
      import("@opentelemetry/resources"),
    ]);
  const provider = new sdk.TracerProvider({
    resource: resources
      .defaultResource()
      .merge(resources.resourceFromAttributes({ "service.name": env.OTEL_SERVICE_NAME || "envoy-mcp-auth" })),
    sampler: new sdk.ParentBasedSampler({ root: new sdk.AlwaysOnSampler() }),
    spanProcessors: [
      new sdk.BatchSpanProcessor({
        exporter: new OTLPTraceExporter({ url: endpoint }),
        scheduledDelayMillis: Number(env.OTEL_BSP_SCHEDULE_DELAY) || 5000,
      }),
    ],
  });
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  propagation.setGlobalPropagator(new core.W3CTraceContextPropagator());
  trace.setGlobalTracerProvider(provider);
  return {
    tracer: provider.getTracer("envoy-mcp-auth"),
    async close() {
      await provider.shutdown();
      trace.disable();
      propagation.disable();
      context.disable();
    },
  };
}

/**
 * Runs `work`, a call to another service, in a child span of the active span. Without one (tracing is off, or background work), it only
 * runs `work`.
 *
 * @param attributes following OpenTelemetry's semantic conventions; never tokens, queries or bodies.
 */
export function inSpan<T>(
  name: string,
  attributes: Attributes,
  work: (span: Span | undefined) => Promise<T>,
): Promise<T> {
  if (trace.getActiveSpan() === undefined) return work(undefined);
  return trace
    .getTracer("envoy-mcp-auth")
    .startActiveSpan(name, { kind: SpanKind.CLIENT, attributes }, async (span) => {
      try {
        return await work(span);
      } catch (error) {
        const code = error instanceof Error && "code" in error ? String(error.code) : "internal";
        span.setStatus({ code: SpanStatusCode.ERROR, message: code }).setAttribute("error.type", code);
        throw error;
      } finally {
        span.end();
      }
    });
}

/** Adds a span to each HTTP request, as a child of Envoy's (`traceparent`). Without the query, which may contain codes. */
export function tracedHttp(tracer: Tracer): Middleware {
  return async (ctx, next) => {
    const parent = propagation.extract(ROOT_CONTEXT, ctx.req.headers);
    const attributes = {
      "http.request.method": ctx.method,
      "url.path": ctx.path,
      "server.address": ctx.hostname,
    };
    const span = tracer.startSpan(ctx.method, { kind: SpanKind.SERVER, attributes }, parent);
    try {
      await context.with(trace.setSpan(parent, span), next);
    } finally {
      span.setAttribute("http.response.status_code", ctx.status);
      if (ctx.status >= 500) span.setStatus({ code: SpanStatusCode.ERROR });
      span.end();
    }
  };
}

interface Service {
  readonly admits?: "proven" | "unproven" | "anybody";
  readonly definition: ServiceDefinition;
  readonly implementation: UntypedServiceImplementation;
}

/** Adds a span to each call of a service, as a child of Envoy's in the call's metadata. */
export function tracedService(service: Service, tracer: Tracer): Service {
  const implementation = Object.entries(service.implementation).map(([method, handle]) => {
    const path = Object.entries(service.definition).find(([name]) => name === method)?.[1].path ?? method;
    return [method, traced(handle, path.replace(/^\//, ""), tracer)] as const;
  });
  const { admits, definition } = service;
  return { admits, definition, implementation: Object.fromEntries(implementation) };
}

function traced(handle: UntypedHandleCall, path: string, tracer: Tracer): UntypedHandleCall {
  const [service = "", method = ""] = path.split("/");
  const attributes = { "rpc.system": "grpc", "rpc.service": service, "rpc.method": method };
  return (call: Call, callback?: Callback) => {
    const parent = propagation.extract(ROOT_CONTEXT, call.metadata, fromMetadata);
    const span = tracer.startSpan(path, { kind: SpanKind.SERVER, attributes }, parent);
    // A stream has no callback: its span ends when it closes.
    if (callback === undefined) call.once("close", () => span.end());
    const answered: Callback | undefined =
      callback &&
      ((...answer) => {
        callback(...answer);
        // The handler may still add attributes after its answer.
        queueMicrotask(() => span.end());
      });
    context.with(trace.setSpan(parent, span), () => Reflect.apply(handle, undefined, [call, answered]));
  };
}

interface Call {
  readonly metadata: Metadata;
  once(event: "close", listener: () => void): void;
}
type Callback = (...answer: unknown[]) => void;

const fromMetadata = {
  keys: (metadata: Metadata) => Object.keys(metadata.getMap()),
  get: (metadata: Metadata, key: string) => metadata.get(key).map(String),
};
