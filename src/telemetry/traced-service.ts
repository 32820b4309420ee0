import type {
  Metadata,
  ServiceDefinition,
  UntypedHandleCall,
  UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { context, propagation, ROOT_CONTEXT, SpanKind, type Tracer, trace } from "@opentelemetry/api";

interface Service {
  readonly admits?: "proven" | "unproven" | "anybody";
  readonly definition: ServiceDefinition;
  readonly implementation: UntypedServiceImplementation;
}

/** The service with a span around each call, below the one that the caller (Envoy) names in the call's metadata. */
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
    // A stream has no callback: it ends as it is closed.
    if (callback === undefined) call.once("close", () => span.end());
    const answered: Callback | undefined =
      callback &&
      ((...answer) => {
        callback(...answer);
        // After what the handler still does with its answer (attributes of the decision).
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
