import { loadConfig } from "../config/load-config.ts";
import type { Problem } from "../config/problems.ts";
import type { Route } from "../model/route.ts";
import { mayHaveDatabase, withStore } from "./command.ts";
import { type Cursor, type Listing, type ListingOptions, printPages } from "./listing.ts";

interface Listed {
  readonly id: string;
  readonly source: "file" | "database";
  /** Undefined if the stored route cannot be read. */
  readonly route?: Route;
  readonly problems: readonly Problem[];
}

const listing: Listing<Listed> = {
  cursor: ({ id, source }) => [id, source],
  // The names in JSON are those of the admin API.
  columns: [
    ["route", "id", (one) => one.id],
    ["source", "source", (one) => one.source],
    ["url", "url", (one) => one.route?.resource],
    ["to", "to", (one) => one.route?.to],
    ["kind", "kind", (one) => one.route?.mcp.kind],
    ["auth", "auth", ({ route }) => (route?.mcp.kind === "server" ? route.mcp.auth.type : undefined)],
    ["enabled", "enabled", (one) => one.route?.enabled],
    ["in force", "in_force", (one) => one.problems.length === 0],
    [
      "problems",
      "problems",
      ({ problems }) => problems.map(({ path, message, fix }) => ({ path, message, fix })),
    ],
  ],
};

/**
 * The command `routes list`: the routes of the file and of the database, by id. Without a database, those of the file.
 * @returns the exit code
 * @throws StoreMisconfigured, StoreUnavailable: a list without the routes of the database would look complete
 */
export async function runRoutes(options: ListingOptions): Promise<number> {
  const loaded = loadConfig(options.file, options.env);
  const inFile = (loaded.ok ? loaded.config.routes : []).map((route): Listed => {
    return { id: route.id, source: "file", route, problems: [] };
  });
  if (loaded.ok && !mayHaveDatabase(loaded.config)) {
    await print(options, inFile);
    return 0;
  }
  return withStore(options, async ({ storedRoutes: { problems, withoutCredential, read } }) => {
    const stored = [...new Set([...read.keys(), ...problems.keys()])].map((id): Listed => {
      const found = problems.get(id) ?? withoutCredential.get(id) ?? [];
      return { id, source: "database", route: read.get(id), problems: found };
    });
    await print(options, [...inFile, ...stored]);
    return 0;
  });
}

async function print(options: ListingOptions, routes: readonly Listed[]): Promise<void> {
  // A stored route with the id of one of the file is not in force; both are listed. Ids have no spaces.
  const place = (cursor: Cursor) => cursor.join(" ");
  const of = (one: Listed) => place(listing.cursor(one));
  const inOrder = routes.toSorted((a, b) => (of(a) < of(b) ? -1 : 1));
  const after = place(options.after ?? []);
  await printPages(options, listing, pages(inOrder.filter((one) => of(one) > after)));
}

async function* pages(rows: readonly Listed[]) {
  if (rows.length > 0) yield rows;
}
