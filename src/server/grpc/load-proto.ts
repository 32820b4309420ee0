import { join } from "node:path";
import { loadPackageDefinition, type ServiceDefinition } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const folder = join(import.meta.dirname, "../..", "..", "proto");

/**
 * Definition of a gRPC service in `proto/`.
 *
 * @param file relative to `proto/`.
 * @param name fully qualified.
 */
export function loadGrpcService(file: string, name: string): ServiceDefinition {
  const loaded = loadSync(file, { includeDirs: [folder], enums: String, longs: Number });
  let found: unknown = loadPackageDefinition(loaded);
  for (const part of name.split(".")) {
    found =
      (typeof found === "object" || typeof found === "function") && found
        ? Reflect.get(found, part)
        : undefined;
  }
  const service = typeof found === "function" && "service" in found ? found.service : undefined;
  if (!isServiceDefinition(service)) throw new Error(`${file} holds no service ${name}`);
  return service;
}

function isServiceDefinition(value: unknown): value is ServiceDefinition {
  return typeof value === "object" && value !== null;
}
