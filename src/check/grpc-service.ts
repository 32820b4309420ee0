import type { ServiceDefinition, UntypedServiceImplementation } from "@grpc/grpc-js";
import type { UnaryHandler } from "./unary-handler.ts";

/** A gRPC service as a room exports it and `createGrpcServer` serves it. */
export interface GrpcService {
  readonly definition: ServiceDefinition;
  readonly implementation: UntypedServiceImplementation;
  /** Methods, by path (`/package.Service/Method`), that are served without grpc-js wherever a call asks for nothing special. */
  readonly unary?: Readonly<Record<string, UnaryHandler>>;
}
