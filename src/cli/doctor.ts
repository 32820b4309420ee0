import { existsSync } from "node:fs";
import type { Config } from "../config/config.ts";
import { loadConfig } from "../config/load-config.ts";
import { formatProblem } from "../config/problems.ts";
import { createRouteTable, type RouteTable } from "../config/route-table.ts";
import { redirectUriByHand } from "../config/upstream-callback.ts";
import type { Route, UpstreamAuth } from "../model/route.ts";
import type { Store } from "../store/store.ts";
import { adviceFor } from "../upstream-oauth/advice.ts";
import { createDiscovery } from "../upstream-oauth/discovery.ts";
import { doctor as discover } from "../upstream-oauth/doctor.ts";
import { createMetadataCache } from "../upstream-oauth/metadata-cache.ts";
import { createRouteFetch } from "../upstream-oauth/route-fetch.ts";
import type { DiscoveryResult, DiscoveryStep, UpstreamOAuth } from "../upstream-oauth/upstream-oauth.ts";
import { type CommandOptions, withStore } from "./command.ts";

const titles: Readonly<Record<DiscoveryStep["name"], string>> = {
  upstream: "Ask the server without a token",
  initialize: "Open a session",
  resource_metadata: "Protected-resource metadata",
  server_metadata: "Authorization server metadata",
  default_endpoints: "Default endpoints (2025-03-26)",
  capabilities: "What the authorization server can do",
  client: "Who we are there",
  token_endpoint: "Token endpoint",
  result: "Result",
};

const unseen =
  "Whether it accepts the client of the routes file shows at the first call; nothing here can see it.\n";

/**
 * `doctor ROUTE`: goes through what a call or a consent on the route does, prints each step with its URL, status and finding as it
 * happens, and ends with what the operator should do.
 *
 * @param deps.write takes the text, line ends included.
 * @returns whether people can use the route as it is.
 */
export async function doctor(
  route: Route,
  deps: {
    readonly discover: UpstreamOAuth["discover"];
    /** What an operator may have to register by hand. */
    readonly redirectUri: string;
    readonly write: (text: string) => void;
  },
): Promise<boolean> {
  const { write } = deps;
  write(`${route.name}\n  ${route.resource} -> ${route.upstream}\n`);
  if (!route.enabled) write("\nThe route is switched off (enabled: false): it answers 404.\n");
  if (route.mcp.kind === "client") {
    write("\nA client route: the application behind it needs no upstream token. Nothing to discover.\n");
    return true;
  }
  const { auth } = route.mcp;
  write(introduction(auth, deps.redirectUri));

  let last: string | undefined;
  let isGuess = false;
  const notes: string[] = [];
  const outcome = await deps.discover(route, (step) => {
    if (step.name === "result") return; // Said below, with what to do.
    if (step.name !== last) write(`\n${titles[step.name]}\n`);
    last = step.name;
    isGuess ||= step.name === "default_endpoints";
    if (step.note !== undefined) notes.push(step.note);
    write(lines(step));
  });
  if (!outcome.ok) {
    write(
      `\nPeople cannot ${auth.mode === "consent" ? "connect" : "use this route"}: ${outcome.message} (${outcome.code})\n\nWhat to do\n${wrapped(adviceFor(outcome.code, route))}`,
    );
    return false;
  }
  if (isGuess) {
    write(
      "\nNobody can tell whether people can connect: the server publishes no metadata, and its endpoints are a guess.\n" +
        `\nWhat to do\n${wrapped(adviceFor("discovery_failed", route))}`,
    );
    return false;
  }
  write(
    `\n${verdict(auth, outcome)}${notes.length === 0 && auth.mode === "consent" ? " Nothing to do." : ""}\n`,
  );
  if (outcome.needed && auth.mode !== "consent") write(unseen);
  if (notes.length > 0) write(`\nWorth knowing\n${notes.map(wrapped).join("")}`);
  return true;
}

/** What is not discovered, and what of it nothing here can see. */
function introduction(auth: UpstreamAuth, redirectUri: string): string {
  switch (auth.mode) {
    case "static":
      return auth.headers.length === 0
        ? "\nupstream_auth is none: calls go to the server without a credential.\n"
        : `\nupstream_auth is ${auth.type}: there is no authorization server to discover.\n`;
    case "non_interactive":
      return auth.tokenUrl === undefined
        ? ""
        : `\nupstream_auth is ${auth.type}, with its token_url: nothing is discovered.\n  token          ${auth.tokenUrl}\n`;
    case "consent":
      return auth.endpoint === undefined
        ? ""
        : "\nupstream_oauth2.endpoint is given: nothing is discovered.\n" +
            `  authorization  ${auth.endpoint.authUrl}\n  token          ${auth.endpoint.tokenUrl}\n` +
            `${auth.clientId ?? "our client"} must be registered there with this redirect URI; nothing here can see whether it is.\n` +
            `  redirect URI   ${redirectUri}\n`;
    default:
      return auth satisfies never;
  }
}

function verdict(auth: UpstreamAuth, found: Extract<DiscoveryResult, { ok: true }>): string {
  const server = found.issuer ?? "the server";
  if (!found.needed) {
    return auth.mode === "consent" || (auth.mode === "static" && auth.headers.length === 0)
      ? "The server needs no authorization: people can use this route as it is."
      : "The server accepts the credential of the routes file: people can use this route as it is.";
  }
  if (auth.mode !== "consent") return `Nobody has to connect: tokens are asked for at ${server}.`;
  const scopes = found.scopes.length > 0 ? `, scopes ${found.scopes.join(" ")}` : "";
  return `People can connect: they will be sent to ${server}${scopes}.`;
}

function lines(step: DiscoveryStep): string {
  const mark = step.ok ? "ok  " : "FAIL";
  if (step.url === undefined) return `  ${mark}  ${step.finding}\n`;
  // A step that went well without a status has asked nobody: its URL is something found.
  const status = step.status ?? (step.ok ? "" : "no answer");
  const place = `  ${mark}  ${step.url}  ${status}`.trimEnd();
  return `${place}\n        ${step.finding}\n`;
}

/** Lines of at most 100 characters, indented by two; words are never cut. */
function wrapped(text: string): string {
  const rows = [""];
  for (const word of text.split(" ")) {
    const row = rows[rows.length - 1] ?? "";
    if (row.length + word.length > 97 && row !== "") rows.push(word);
    else rows[rows.length - 1] = row === "" ? word : `${row} ${word}`;
  }
  return rows.map((row) => `  ${row}\n`).join("");
}

/**
 * The command `doctor`. A running sidecar is not needed. The database is where it has routes of the admin API and what we are
 * registered as: without it routes of the file are examined all the same.
 *
 * @param options.route id of a route, or a URL at or under it.
 * @returns the exit code: 0 when people can use the route.
 */
export async function runDoctor(options: CommandOptions & { readonly route: string }): Promise<0 | 1> {
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
    await withStore(options, async ({ routes, store }) => {
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

function unknown({ err, route }: CommandOptions & { readonly route: string }, config: Config): 1 {
  const known = config.routes.map(({ id }) => id).join(", ");
  err(`no route ${route} in the routes file, nor among those of the admin API; there are: ${known}\n`);
  return 1;
}

async function examine(
  { out }: CommandOptions,
  table: RouteTable,
  route: Route,
  store?: Pick<Store, "clientRegistrations">,
): Promise<0 | 1> {
  const routes = () => table;
  const routeFetch = createRouteFetch({ routes });
  const cache = createMetadataCache({ entries: table.config.limits.metadataCacheEntries });
  const discovery = createDiscovery({ routes, routeFetch: routeFetch, cache });
  const isWell = await doctor(route, {
    discover: (asked, onStep) =>
      discover({ routes, discovery, routeFetch: routeFetch, store }, asked, onStep),
    redirectUri: redirectUriByHand(table.config, route),
    write: out,
  });
  return isWell ? 0 : 1;
}
