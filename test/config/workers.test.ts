import { availableParallelism } from "node:os";
import { describe, expect, it } from "vitest";
import { loadConfig } from "../../src/config/load-config.ts";
import { workerAddress } from "../../src/config/workers.ts";
import { clusters } from "../../src/envoy-config/clusters.ts";
import { configFile } from "./config-file.ts";
import { problemsOf } from "./problems-of.ts";

const file = (more: string) =>
  `issuer: https://auth.example.com\nsign_in: {providers: [{issuer: https://id.example.com, client_id: c, trust_email: false}]}
policy: {allow: {or: [{accept: true}]}}\nroutes: [{from: https://h.example.com, to: http://x, mcp: {}}]\n${more}\n`;
const env = { DATABASE_URL: "postgres://u:p@127.0.0.1/d" };

function sidecar(more: string, workers?: number | "auto") {
  const loaded = loadConfig(configFile(file(more)), env, { workers });
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));
  return loaded.config.envoy.sidecar;
}

describe("each worker has addresses of its own", () => {
  it.each([
    ["127.0.0.1:50051", "127.0.0.1:50053"],
    ["[::1]:50051", "[::1]:50053"],
    ["sidecar.test:50051", "sidecar.test:50053"],
    ["unix:/run/grpc.sock", "unix:/run/grpc.3.sock"],
    ["unix:/run/v1.2/grpc", "unix:/run/v1.2/grpc.3"],
  ])("the third one of %s is %s", (address, third) => {
    expect(workerAddress(address, 1)).toBe(address);
    expect(workerAddress(address, 3)).toBe(third);
  });

  it("Envoy's configuration has all of them as endpoints, with the health of each", () => {
    const addresses = {
      grpc: ["127.0.0.1:50051", "127.0.0.1:50052"],
      http: ["127.0.0.1:8080", "127.0.0.1:8081"],
    };
    expect(sidecar("workers: 2")).toEqual(addresses);
    expect(sidecar("", 2)).toEqual(addresses);
    const loaded = loadConfig(configFile(file("workers: 2")), env);
    const [grpc] = loaded.ok ? clusters(loaded.config) : [];
    const ports = JSON.stringify(grpc?.load_assignment).match(/"port_value":\d+/g);
    expect(ports).toEqual(['"port_value":50051', '"port_value":50052']);
  });

  it("also where envoy.sidecar names several machines", () => {
    expect(sidecar('workers: 2\nenvoy: {sidecar: {grpc: ["a.test:1000", "b.test:1000"]}}').grpc).toEqual([
      "a.test:1000",
      "a.test:1001",
      "b.test:1000",
      "b.test:1001",
    ]);
  });

  it("the command line overrides the file, and auto is a worker for each core", () => {
    expect(sidecar("workers: 4", 1).grpc).toEqual(["127.0.0.1:50051"]);
    expect(sidecar("workers: auto").grpc).toHaveLength(availableParallelism());
    expect(sidecar("").grpc).toEqual(["127.0.0.1:50051"]);
  });
});

describe("a file whose workers cannot serve is rejected:", () => {
  const problems = (more: string, given: Record<string, string> = env) =>
    problemsOf(file(more), given).filter((problem) => !problem.includes("not encrypted"));

  it("a number that is none", () => {
    expect(problems("workers: 0")[0]).toContain("workers is too small -> write at least 1");
    expect(problems("workers: many")[0]).toContain('write "auto" or a number');
  });

  it("a worker at the port of another listener", () => {
    expect(problems("workers: 2\nlisten: {grpc: 127.0.0.1:50051, http: 127.0.0.1:50052}")[0]).toContain(
      "listen.http: worker 1 of 2 listens on 127.0.0.1:50052, which is the port of listen.grpc",
    );
    expect(problems("workers: 2\nlisten: {http: 127.0.0.1:9089}")[0]).toContain(
      "worker 2 of 2 listens on 127.0.0.1:9090, which is the port of listen.admin",
    );
    expect(problems("workers: 11")[0]).toContain("127.0.0.1:8090, which is the port of aggregation.listen");
    expect(problems("workers: 2\nlisten: {grpc: 127.0.0.1:65535}")[0]).toContain(
      "127.0.0.1:65536, which is not a port",
    );
    expect(problems("workers: 10")).toEqual([]);
  });

  it("without a Postgres server, it is a warning: the file may be checked elsewhere", () => {
    expect(problems("workers: 2", {})[0]).toContain(
      "warning workers: there is no database.url (DATABASE_URL)",
    );
    expect(problems("workers: 1", {})).toEqual([]);
  });
});
