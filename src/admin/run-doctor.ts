import { existsSync } from "node:fs";
import type { Config } from "../config/config.ts";
import { createRouteTable } from "../config/create-route-table.ts";
import { formatProblem } from "../config/format-problem.ts";
import { loadConfig } from "../config/load-config.ts";
import type { Route } from "../config/route.ts";
import type { RouteTable } from "../config/route-table.ts";
import { redirectUriByHand } from "../config/upstream-callback.ts";
import type { Store } from "../store/store.ts";
import { createDiscovery } from "../upstream-oauth/discovery.ts";
import { doctor as discover } from "../upstream-oauth/doctor.ts";
import { createMetadataCache } from "../upstream-oauth/metadata-cache.ts";
import { createOutward } from "../upstream-oauth/outward.ts";
import { doctor } from "./doctor.ts";
import { type CommandPlace, withRooms } from "./with-rooms.ts";

/**
 * The command `doctor`. A running sidecar is not needed. The database is where it has routes of the admin API and what we are
 * registered as: without it routes of the file are examined all the same.
 *
 * @param options.route id of a route, or a URL at or under it.
 * @returns the exit code: 0 when people can use the route.
 */
export async function runDoctor(options: CommandPlace & { readonly route: string }): Promise<0 | 1> {
  const loaded = loadConfig(options.file, options.env);
  if (!loaded.ok) {
    for (const problem of loaded.problems) options.err(`${formatProblem(problem)}\n`);
    return 1;
  }
  const { config } = loaded;
  const table = createRouteTable(config);
  const inFile = find(table, options.route);
  if (inFile && config.database.url === undefined) return examine(options, table, inFile);
  if (!inFile && !mayHaveDatabase(config)) return unknown(options, config);
  let done: 0 | 1 | undefined;
  try {
    await withRooms(options, async ({ routes, store }) => {
      const route = find(routes(), options.route);
      done = route ? await examine(options, routes(), route, store) : unknown(options, routes().config);
      return done;
    });
  } catch (error) {
    if (done !== undefined) return done;
    const reason = error instanceof Error ? error.message : String(error);
    options.err(
      `the database cannot be opened (${reason}): routes of the admin API, and what we are registered as, are not looked at\n`,
    );
    if (!inFile) return unknown(options, config);
  }
  return done ?? (inFile ? examine(options, table, inFile) : 1);
}

function find(table: RouteTable, wanted: string): Route | undefined {
  return table.byId(wanted) ?? table.byResource(wanted);
}

/** An embedded database that is not there yet is not made by asking. */
function mayHaveDatabase({ database }: Config): boolean {
  return database.url !== undefined || existsSync(database.dir);
}

function unknown({ err, route }: CommandPlace & { readonly route: string }, config: Config): 1 {
  const known = config.routes.map(({ id }) => id).join(", ");
  err(`no route ${route} in the routes file, nor among those of the admin API; there are: ${known}\n`);
  return 1;
}

async function examine(
  { out }: CommandPlace,
  table: RouteTable,
  route: Route,
  store?: Pick<Store, "clientRegistrations">,
): Promise<0 | 1> {
  const routes = () => table;
  const outward = createOutward({ routes });
  const cache = createMetadataCache({ entries: table.config.limits.metadataCacheEntries });
  const discovery = createDiscovery({ routes, outward, cache });
  const isWell = await doctor(route, {
    discover: (asked, onStep) => discover({ routes, discovery, outward, store }, asked, onStep),
    redirectUri: redirectUriByHand(table.config, route),
    write: out,
  });
  return isWell ? 0 : 1;
}
