import { readFileSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse, stringify } from "yaml";
import { loopbackFetch } from "../../dev/demo/loopback-fetch.ts";
import { loadConfig } from "../../src/config/load-config.ts";
import { formatProblem } from "../../src/config/problems.ts";
import { configFile } from "../config/config-file.ts";
import { type E2e, startE2e } from "../support/e2e.ts";
import { type Client, clients, hostsOf, isWalked, type Upstream, upstreams } from "./catalog.ts";
import { type ScriptedVendors, scriptedVendors } from "./scripted-vendors.ts";

/** One stack for the whole catalog: a route per upstream and per client, through a real Envoy. */
export interface Catalog {
  readonly stack: E2e;
  readonly upstreams: ReadonlyMap<string, Upstream>;
  readonly clients: ReadonlyMap<string, Client>;
  readonly vendors: ScriptedVendors;
  /** Entries whose route is an error in the routes file, by route id. */
  readonly problems: ReadonlyMap<string, string>;
  /** Reaches the gateway's hosts through Envoy, and the vendors' hosts. */
  readonly fetch: typeof globalThis.fetch;
  close(): Promise<void>;
}

export const upstreamRoute = (name: string) => `https://${name}.upstreams.test`;
export const clientRoute = (name: string) => `https://${name}.clients.test`;

export async function startCatalog(): Promise<Catalog> {
  const entries = { upstreams: walked(await upstreams()), clients: walked(await clients()) };
  const problems = new Map<string, string>();
  let stack: E2e | undefined;
  const vendors = await scriptedVendors(entries.upstreams, entries.clients, {
    redirectUri: (name) => `${upstreamRoute(name)}/.pomerium/mcp/client/oauth/callback`,
    fetch: (url) => (stack as E2e).fetch(url),
  });
  const hosts = [...entries.upstreams.values(), ...entries.clients.values()].flatMap(hostsOf);
  const vendorHosts = new Set(hosts.filter((host) => host !== "localhost"));
  // Created beforehand, since the sidecar must trust the CA in it for hosts that no route names.
  const folder = await mkdtemp(join(tmpdir(), "catalog-"));
  try {
    stack = await startE2e({
      folder,
      names: ["*.upstreams.test", "*.clients.test", ...vendorHosts],
      env: {
        NODE_OPTIONS: `--import ${join(import.meta.dirname, "stand-in-names.ts")}`,
        NODE_EXTRA_CA_CERTS: join(folder, "ca.pem"),
        CATALOG_PORT: String(vendors.port),
      },
      config: (config) => {
        const open = config.routes.find(({ id }) => id === "open")?.to;
        const routes = [
          ...[...entries.upstreams].map(([name, { to, settings = {} }]) => ({
            id: `upstream-${name}`,
            from: upstreamRoute(name),
            to,
            mcp: { server: settings },
          })),
          ...[...entries.clients].map(([name, { settings = {}, routePath = "" }]) => ({
            id: `client-${name}`,
            from: `${clientRoute(name)}${routePath}`,
            to: open,
            mcp: { server: { upstream_auth: "none", ...settings } },
          })),
        ];
        for (const route of routes) {
          const found = errorsOf(route);
          if (found) problems.set(route.id, found);
        }
        return { ...config, routes: [...config.routes, ...routes.filter(({ id }) => !problems.has(id))] };
      },
      bootstrap: (yaml) => onLoopback(yaml, vendorHosts, vendors.port),
    });
  } catch (error) {
    await vendors.close();
    throw error;
  }
  const { ca } = stack;
  vendors.secure({
    key: readFileSync(ca.files.key, "utf8"),
    cert: readFileSync(ca.files.certificate, "utf8"),
  });
  const { envoyPort, close } = stack;
  const ours = loopbackFetch(ca.ca, envoyPort, { allowH2: false });
  const theirs = loopbackFetch(ca.ca, vendors.port);
  return {
    ...entries,
    problems,
    stack,
    vendors,
    fetch: (input, init) => {
      const { hostname } = new URL(input instanceof Request ? input.url : input);
      return vendorHosts.has(hostname) ? theirs.fetch(input, init) : ours.fetch(input, init);
    },
    async close() {
      await ours.close();
      await close();
      await theirs.close();
      await vendors.close();
    },
  };
}

function walked<One>(all: ReadonlyMap<string, One>): Map<string, One> {
  return new Map([...all].filter(([name]) => isWalked(name)));
}

/** Why a routes file with this one route is rejected; the others are still tested. */
function errorsOf(route: Record<string, unknown>): string | undefined {
  const file = {
    issuer: "https://auth.test",
    sign_in: { providers: [{ issuer: "https://id.test", client_id: "c", id: "company" }] },
    policy: [{ allow: { and: [{ authenticated_user: true }] } }],
    routes: [route],
  };
  const loaded = loadConfig(configFile(stringify(file)), {});
  return loaded.ok ? undefined : loaded.problems.map(formatProblem).join("\n");
}

/** Envoy connects to the scripted vendors instead of the real hosts; names and certificates are unchanged. */
export function onLoopback(yaml: string, hosts: ReadonlySet<string>, port: number): string {
  const moved = JSON.stringify(parse(yaml), (_key, value: unknown) => {
    const isPlace =
      typeof value === "object" && value !== null && "address" in value && "port_value" in value;
    return isPlace && hosts.has(String(value.address)) ? { address: "127.0.0.1", port_value: port } : value;
  });
  return stringify(JSON.parse(moved));
}
