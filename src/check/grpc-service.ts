import type { ServiceDefinition, UntypedServiceImplementation } from "@grpc/grpc-js";
import type { UnaryHandler } from "./unary-handler.ts";

/** A gRPC service as a room exports it and `createGrpcServer` serves it. */
export interface GrpcService {
  /**
   * Who is let in: those who have proven in the call's metadata that they are Envoy (the default); also those who have shown
   * nothing there, for the service to judge by their message; or anybody (health checks of load balancers).
   */
  readonly admits?: "proven" | "unproven" | "anybody";
  readonly definition: ServiceDefinition;
  readonly implementation: UntypedServiceImplementation;
  /** Methods, by path (`/package.Service/Method`), that are served without grpc-js wherever a call asks for nothing special. */
  readonly unary?: Readonly<Record<string, UnaryHandler>>;
}
