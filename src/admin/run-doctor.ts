import { createRouteTable } from "../config/create-route-table.ts";
import { formatProblem } from "../config/format-problem.ts";
import { loadConfig } from "../config/load-config.ts";
import { redirectUriByHand } from "../config/upstream-callback.ts";
import { createDiscovery } from "../upstream-oauth/discovery.ts";
import { doctor as discover } from "../upstream-oauth/doctor.ts";
import { createMetadataCache } from "../upstream-oauth/metadata-cache.ts";
import { createOutward } from "../upstream-oauth/outward.ts";
import { doctor } from "./doctor.ts";

/**
 * The command `doctor`: reads the routes file, needs neither a database nor a running sidecar.
 *
 * @param options.route id of a route, or a URL at or under it.
 * @returns the exit code: 0 when people can connect.
 */
export async function runDoctor(options: {
  readonly file: string;
  readonly route: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
}): Promise<0 | 1> {
  const loaded = loadConfig(options.file, options.env);
  if (!loaded.ok) {
    for (const problem of loaded.problems) options.err(`${formatProblem(problem)}\n`);
    return 1;
  }
  const table = createRouteTable(loaded.config);
  const routes = () => table;
  const route = table.byId(options.route) ?? table.byResource(options.route);
  if (!route) {
    const known = loaded.config.routes.map(({ id }) => id).join(", ");
    options.err(
      `no route ${options.route} in the routes file; there are: ${known}. Routes of the admin API are checked as they are made.\n`,
    );
    return 1;
  }
  const outward = createOutward({ routes });
  const discovery = createDiscovery({
    routes,
    outward,
    cache: createMetadataCache({ entries: loaded.config.limits.metadataCacheEntries }),
  });
  const isWell = await doctor(route, {
    discover: (asked, onStep) => discover({ routes, discovery, outward }, asked, onStep),
    redirectUri: redirectUriByHand(loaded.config, route),
    write: options.out,
  });
  return isWell ? 0 : 1;
}
