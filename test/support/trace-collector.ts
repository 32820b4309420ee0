import { join } from "node:path";
import {
  loadPackageDefinition,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServiceClientConstructor,
  type sendUnaryData,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

/** A span as received by the collector; ids in hex. */
export interface CollectedSpan {
  readonly service: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentId: string;
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
}

/** An OpenTelemetry collector in this process: OTLP over gRPC, as Envoy and the sidecar send it. */
export interface TraceCollector {
  /** `127.0.0.1:port` */
  readonly address: string;
  readonly spans: readonly CollectedSpan[];
  /** Resolves once `found` is true of the spans collected so far. */
  until(found: (spans: readonly CollectedSpan[]) => boolean): Promise<void>;
  close(): Promise<void>;
}

interface KeyValue {
  readonly key: string;
  readonly value?: { readonly stringValue?: string; readonly intValue?: string };
}
interface Export {
  readonly resourceSpans: readonly {
    readonly resource?: { readonly attributes: readonly KeyValue[] };
    readonly scopeSpans: readonly {
      readonly spans: readonly {
        readonly traceId: Buffer;
        readonly spanId: Buffer;
        readonly parentSpanId: Buffer;
        readonly name: string;
        readonly attributes: readonly KeyValue[];
      }[];
    }[];
  }[];
}

export async function traceCollector(): Promise<TraceCollector> {
  const definition = loadSync(join(import.meta.dirname, "trace-collector.proto"), {});
  const spans: CollectedSpan[] = [];
  const waiting = new Set<() => void>();
  const server = new Server();
  server.addService(serviceOf(definition), {
    Export(call: ServerUnaryCall<Export, object>, callback: sendUnaryData<object>) {
      for (const { resource, scopeSpans } of call.request.resourceSpans ?? []) {
        const { "service.name": name = "" } = asRecord(resource?.attributes);
        for (const span of (scopeSpans ?? []).flatMap((scope) => scope.spans ?? [])) {
          spans.push({
            service: name,
            traceId: hex(span.traceId),
            spanId: hex(span.spanId),
            parentId: hex(span.parentSpanId),
            name: span.name,
            attributes: asRecord(span.attributes),
          });
        }
      }
      callback(null, {});
      for (const look of waiting) look();
    },
  });
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  return {
    address: `127.0.0.1:${port}`,
    spans,
    until: (found) =>
      new Promise((resolve) => {
        const look = () => {
          if (!found(spans)) return;
          waiting.delete(look);
          resolve();
        };
        waiting.add(look);
        look();
      }),
    async close() {
      server.forceShutdown();
    },
  };
}

function serviceOf(definition: ReturnType<typeof loadSync>) {
  let at: unknown = loadPackageDefinition(definition);
  for (const step of ["opentelemetry", "proto", "collector", "trace", "v1", "TraceService"])
    at = typeof at === "object" && at !== null ? Reflect.get(at, step) : undefined;
  if (!isClient(at)) throw new Error("no TraceService in the proto");
  return at.service;
}

function isClient(value: unknown): value is ServiceClientConstructor {
  return typeof value === "function" && "service" in value;
}

function asRecord(attributes: readonly KeyValue[] = []): Record<string, string> {
  return Object.fromEntries(
    attributes.map(({ key, value }) => [key, value?.stringValue ?? value?.intValue?.toString() ?? ""]),
  );
}

function hex(bytes: Buffer | undefined): string {
  return Buffer.from(bytes ?? []).toString("hex");
}
