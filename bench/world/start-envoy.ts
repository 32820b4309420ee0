import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { envoyBinary } from "../../envoy/envoy-binary.ts";
import { type Process, startProcess } from "./start-process.ts";
import type { World } from "./world.ts";

/** An Envoy with its listeners by name. */
export interface RunningEnvoy extends Process {
  readonly ports: Readonly<Record<string, number>>;
}

const cli = join(import.meta.dirname, "../../src/main.ts");

/** A bootstrap, as far as it is changed here. */
interface Bootstrap {
  admin?: unknown;
  static_resources: { listeners: Listener[] };
}
interface Listener {
  name: string;
  address: unknown;
  filter_chains: { filters: { typed_config: ConnectionManager }[] }[];
}
interface ConnectionManager {
  http_filters: { name: string }[];
  route_config: { virtual_hosts: { routes: { typed_per_filter_config?: unknown }[] }[] };
}

/**
 * Starts Envoy with what `envoy-config` prints for a routes file as listener `mcp`, and beside it the same without any filter
 * (`alone`) and without the response path (`request path only`). One worker.
 */
export async function startEnvoy(world: World, file: string): Promise<RunningEnvoy> {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [cli, "envoy-config", "--config", file, "--format", "json"],
    { env: { ...process.env, ...world.env }, maxBuffer: 64 * 1024 * 1024 },
  );
  const bootstrap = JSON.parse(stdout) as Bootstrap;
  const [mcp, ...others] = bootstrap.static_resources.listeners;
  if (!mcp) throw new Error("the bootstrap has no listener");
  bootstrap.static_resources.listeners = [
    variant(mcp, "mcp", () => true),
    variant(mcp, "request path only", (filter) => filter !== "envoy_mcp_auth.challenge"),
    variant(mcp, "alone", (filter) => filter === "envoy.filters.http.router"),
    ...others,
  ];
  bootstrap.admin = { address: loopback };
  const bootstrapFile = join(world.folder, "envoy.json");
  await writeFile(bootstrapFile, JSON.stringify(bootstrap));
  const addressFile = join(world.folder, "envoy-admin");
  const process_ = await startProcess({
    name: "envoy",
    command: [
      await envoyBinary(),
      "-c",
      bootstrapFile,
      "--concurrency",
      "1",
      "--log-level",
      "error",
      "--disable-hot-restart",
      "--admin-address-path",
      addressFile,
    ],
    folder: world.folder,
    ready: () => isReady(addressFile),
  });
  const { listener_statuses: statuses } = (await (
    await fetch(`http://${readFileSync(addressFile, "utf8")}/listeners?format=json`)
  ).json()) as {
    listener_statuses: { name: string; local_address: { socket_address: { port_value: number } } }[];
  };
  const ports = Object.fromEntries(
    statuses.map((status) => [status.name, status.local_address.socket_address.port_value]),
  );
  return { ...process_, ports };
}

const loopback = { socket_address: { address: "127.0.0.1", port_value: 0 } };

function variant(listener: Listener, name: string, keeps: (filter: string) => boolean): Listener {
  const copy = structuredClone(listener);
  copy.name = name;
  copy.address = loopback;
  for (const { filters } of copy.filter_chains) {
    for (const { typed_config: manager } of filters) {
      manager.http_filters = manager.http_filters.filter((filter) => keeps(filter.name));
      const left = new Set(manager.http_filters.map((filter) => filter.name));
      for (const host of manager.route_config.virtual_hosts) {
        for (const route of host.routes) {
          route.typed_per_filter_config = Object.fromEntries(
            Object.entries(route.typed_per_filter_config ?? {}).filter(([filter]) => left.has(filter)),
          );
        }
      }
    }
  }
  return copy;
}

async function isReady(addressFile: string): Promise<boolean> {
  try {
    return (await fetch(`http://${readFileSync(addressFile, "utf8")}/ready`)).ok;
  } catch {
    return false;
  }
}
