import { listedPath } from "../config/endpoint.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import type { ExternalTokens } from "../external-tokens/external-tokens.ts";
import type { Route } from "../model/route.ts";
import type { Subject } from "../model/subject.ts";
import type { SignIn } from "../sign-in/sign-in.ts";
import type { People } from "../store/people.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { UpstreamOAuth } from "../upstream-oauth/upstream-oauth.ts";
import type { UpstreamTokens } from "../upstream-tokens/upstream-tokens.ts";

/** What is known of an MCP client, for people. */
export interface ClientFacts {
  readonly id: string;
  readonly name?: string;
  /** `document`: its metadata stand at `id`'s host; `registered`: it said its name itself; `known`: an operator entered it. */
  readonly source: "document" | "registered" | "known";
}

/** What main.ts gives this room. */
export interface PortalDeps {
  readonly routes: CurrentRoutes;
  readonly store: Pick<
    Store,
    "upstreamTokens" | "authorizationServerRecords" | "delegations" | "pendingAuthorizations"
  >;
  readonly signIn: Pick<SignIn, "person" | "begin" | "csrfToken" | "csrfMatches">;
  readonly externalTokens: Pick<ExternalTokens, "identify" | "verify">;
  readonly people: Pick<People, "read">;
  readonly upstreamOAuth: Pick<
    UpstreamOAuth,
    "begin" | "notice" | "finish" | "clientMetadataDocument" | "clientJwks"
  >;
  /** Where below its URL a server is listed; default: what `mcp.server.path` says. */
  readonly endpointPath?: UpstreamOAuth["endpointPath"];
  readonly upstreamTokens: Pick<UpstreamTokens, "connectionState" | "disconnect">;
  /** Whether policy lets this person reach the route now. */
  readonly mayReach: (person: Subject, route: Route) => boolean;
  /** Never rejects: a client we cannot learn about is known by its id. */
  readonly describeClient: (clientId: string) => Promise<ClientFacts>;
  readonly logger: Logger;
}

/** One MCP server as somebody finds it now. */
export interface ServerState {
  readonly route: Route;
  /** Where MCP clients reach it. */
  readonly url: string;
  readonly state: Awaited<ReturnType<UpstreamTokens["connectionState"]>>["state"];
}

/** The MCP servers that policy lets somebody use, in the order of the routes file. */
export function reachableRoutes(
  { routes, mayReach }: Pick<PortalDeps, "routes" | "mayReach">,
  caller: Subject,
): readonly Route[] {
  return routes().config.routes.filter(
    (route) => route.mcp.kind === "server" && route.enabled && mayReach(caller, route),
  );
}

/** One server that does not answer must not hold up the list of all, ms. */
const patienceMs = 3000;

/**
 * Looks at somebody's connections, each as it works now: an expired token is refreshed first.
 * Rejects only when the store does.
 */
export function serverStates(
  { upstreamTokens, endpointPath }: Pick<PortalDeps, "upstreamTokens" | "endpointPath">,
  userId: string,
  routes: readonly Route[],
): Promise<ServerState[]> {
  return Promise.all(
    routes.map(async (route) => {
      const found = upstreamTokens.connectionState(userId, route).then(({ state }) => state);
      const path = listedPath(route) ?? endpointPath?.(route) ?? "";
      const [state, below] = await Promise.all([
        withinPatience<ServerState["state"]>(found, "unavailable"),
        withinPatience(Promise.resolve(path), ""),
      ]);
      return { route, url: route.resource + below, state };
    }),
  );
}

function withinPatience<T>(value: Promise<T>, otherwise: T): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => resolve(otherwise), patienceMs);
    value.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
