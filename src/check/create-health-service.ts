import type { ServerUnaryCall, ServerWritableStream, sendUnaryData } from "@grpc/grpc-js";
import type { GrpcService } from "./grpc-service.ts";
import { loadGrpcService } from "./load-grpc-service.ts";

type Request = { readonly service?: string };
type Answer = { readonly status: "SERVING" | "NOT_SERVING" };

/** grpc.health.v1.Health: one status for whatever service is asked about, since they stand and fall together. */
export function createHealthService(): GrpcService & { setServing(serving: boolean): void; close(): void } {
  const watchers = new Set<ServerWritableStream<Request, Answer>>();
  let status: Answer["status"] = "NOT_SERVING";
  return {
    definition: loadGrpcService("grpc/health/v1/health.proto", "grpc.health.v1.Health"),
    implementation: {
      Check: (_call: ServerUnaryCall<Request, Answer>, callback: sendUnaryData<Answer>) =>
        callback(null, { status }),
      Watch: (call: ServerWritableStream<Request, Answer>) => {
        watchers.add(call);
        call.on("cancelled", () => watchers.delete(call));
        call.write({ status });
      },
    },
    setServing(serving) {
      const next = serving ? "SERVING" : "NOT_SERVING";
      if (next === status) return;
      status = next;
      for (const watcher of watchers) watcher.write({ status });
    },
    close() {
      for (const watcher of watchers) watcher.end();
      watchers.clear();
    },
  };
}
