import type { Route } from "../model/route.ts";
import { checkTogether } from "./check-together.ts";
import type { Config } from "./config.ts";
import { literalFields } from "./fields.ts";
import type { Problem } from "./problems.ts";
import { readRoute } from "./read-route.ts";
import { createReporter } from "./reporter.ts";
import { routeSchema } from "./route-schema.ts";
import { configSource } from "./source.ts";

/** A route kept in the database: an entry as the routes file would have it, with an id. */
export interface StoredEntry {
  readonly id: string;
  readonly entry: Readonly<Record<string, unknown>>;
}

export interface StoredRoutesBuilt {
  /** The file's, with all that fit in. */
  readonly config: Config;
  /** Why the others do not, by id. */
  readonly problems: ReadonlyMap<string, readonly Problem[]>;
  /** By id, all that could be read, whether they fit in or not. */
  readonly read: ReadonlyMap<string, Route>;
}

/**
 * Adds routes of the database to those of the file (F7.5): one that contradicts what stands before it is left out with its
 * problems, and takes nothing else with it.
 *
 * @param config the file's alone
 */
export function buildStoredRoutes(config: Config, entries: readonly StoredEntry[]): StoredRoutesBuilt {
  const schema = routeSchema(literalFields());
  const defaults = { passIdentityHeaders: config.passIdentityHeaders, policy: config.policy };
  const problems = new Map<string, readonly Problem[]>();
  const stored = entries.flatMap(({ id, entry }, index) => {
    const written = { ...entry, id };
    const reporter = createReporter(`route ${id}`, configSource(`route ${id}`, JSON.stringify(written)));
    const route = readRoute(written, [], { schema, defaults }, reporter);
    if (route === undefined) problems.set(id, reporter.problems());
    return route === undefined ? [] : [{ route, path: ["stored", index] }];
  });
  const inFile = config.routes.map((route, index) => ({ route, path: ["routes", index] }));
  checkTogether(config, [...inFile, ...stored], {
    error(path, message, fix) {
      const id = entries[Number(path[1])]?.id;
      if (path[0] !== "stored" || id === undefined) return;
      const at = path.slice(2).join(".");
      const problem = {
        severity: "error",
        file: `route ${id}`,
        line: 1,
        column: 1,
        path: at,
        message,
        fix,
      } as const;
      problems.set(id, [...(problems.get(id) ?? []), problem]);
    },
    warn() {},
    moved() {},
    problems: () => [],
  });
  const fitting = stored.map(({ route }) => route).filter(({ id }) => !problems.has(id));
  return {
    config: { ...config, routes: [...config.routes, ...fitting] },
    problems,
    read: new Map(stored.map(({ route }) => [route.id, route])),
  };
}
