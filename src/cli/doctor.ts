import { configuredMembersOf } from "../config/aggregates.ts";
import { redirectUriByHand } from "../config/callback-urls.ts";
import type { Config } from "../config/config.ts";
import { loadConfig } from "../config/load-config.ts";
import { formatProblem } from "../config/problems.ts";
import { createRouteTable, type RouteTable } from "../config/route-table.ts";
import type { StoredRoutesBuilt } from "../config/stored-routes.ts";
import type { Route } from "../model/route.ts";
import type { Store } from "../store/store.ts";
import { Discovery } from "../upstream-oauth/discovery.ts";
import { doctor as discover } from "../upstream-oauth/doctor.ts";
import { doctorReport } from "../upstream-oauth/doctor-report.ts";
import { createMetadataCache } from "../upstream-oauth/metadata-cache.ts";
import { createRouteFetch } from "../upstream-oauth/route-fetch.ts";
import { type CommandOptions, mayHaveDatabase, withStore } from "./command.ts";

/**
 * The command `doctor`. It needs no running gateway. The database has the stored routes and our client registrations; without it,
 * doctor still examines routes of the routes file.
 *
 * @param options.route id of a route, or a URL at or under it.
 * @param options.json prints a `DoctorReport` instead of text
 * @returns the exit code: 0 if users can use the route.
 */
export async function runDoctor(options: DoctorOptions): Promise<0 | 1> {
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
    await withStore(options, async ({ routes, storedRoutes, store }) => {
      const route = find(routes(), options.route);
      if (route) done = await examine(options, routes(), route, store);
      else done = notInForce(options, storedRoutes, routes()) ?? unknown(options, routes().config);
      return done;
    });
  } catch (error) {
    if (done !== undefined) return done;
    const reason = error instanceof Error ? error.message : String(error);
    options.err(
      `the database cannot be opened (${reason}): stored routes and client registrations are ignored\n`,
    );
    if (!inFile) return unknown(options, config);
  }
  return done ?? (inFile ? examine(options, table, inFile) : 1);
}

type DoctorOptions = CommandOptions & { readonly route: string; readonly json?: boolean };

function find(table: RouteTable, wanted: string): Route | undefined {
  return table.byId(wanted) ?? table.byResource(wanted);
}

/** Says what is wrong with a stored route that exists; undefined: it does not. */
function notInForce(
  { err, route: wanted }: DoctorOptions,
  { problems, read }: StoredRoutesBuilt,
  table: RouteTable,
): 1 | undefined {
  const id =
    [...problems.keys()].find((one) => one === wanted || read.get(one)?.resource === wanted) ??
    table.reservedOf(wanted)?.id;
  if (id === undefined) return undefined;
  err(`the stored route ${id} is not in force:\n`);
  for (const { path, message, fix } of problems.get(id) ?? [])
    err(`  ${path === "" ? "" : `${path}: `}${message}\n    fix: ${fix}\n`);
  return 1;
}

function unknown({ err, route }: DoctorOptions, config: Config): 1 {
  const known = config.routes.map(({ id }) => id).join(", ");
  err(`there is no route ${route} in the routes file or the database; known routes: ${known}\n`);
  return 1;
}

async function examine(
  { out, json }: DoctorOptions,
  table: RouteTable,
  route: Route,
  store?: Pick<Store, "clientRegistrations">,
): Promise<0 | 1> {
  const routes = () => table;
  const routeFetch = createRouteFetch({ routes });
  const cache = createMetadataCache({ entries: table.config.limits.metadataCacheEntries });
  const discovery = new Discovery({ routes, routeFetch, cache });
  const report = await doctorReport(route, {
    discover: (asked, onStep) => discover({ routes, discovery, routeFetch, store }, asked, onStep),
    redirectUri: redirectUriByHand(table.config, route),
    write: json ? () => undefined : out,
    members: configuredMembersOf(table.config, route),
  });
  if (json) out(`${JSON.stringify(report)}\n`);
  return report.usable ? 0 : 1;
}
