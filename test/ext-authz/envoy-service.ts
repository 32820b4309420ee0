import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { loadPackageDefinition, type ServiceDefinition } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const definitions = join(
  dirname(fileURLToPath(import.meta.resolve("@grpc/grpc-js-xds/package.json"))),
  "deps",
);

/**
 * A service from Envoy's full definitions. Numbers for enums, snake_case as in the files.
 * @param more files with the messages that an `Any` of it may hold
 */
export function envoyService(file: string, name: string, more: readonly string[] = []): ServiceDefinition {
  const loaded = loadSync([file, ...more], {
    keepCase: true,
    includeDirs: ["envoy-api", "googleapis", "protoc-gen-validate", "xds"].map((part) =>
      join(definitions, part),
    ),
  });
  const found = name
    .split(".")
    .reduce<unknown>(
      (at, part) => (at ? Reflect.get(Object(at), part) : undefined),
      loadPackageDefinition(loaded),
    );
  return (found as { service: ServiceDefinition }).service;
}
