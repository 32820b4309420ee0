import { listedPath } from "../config/paths.ts";
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
import { withDeadline } from "../util/deadline.ts";
import { mapInTime, pagePace } from "../util/map-in-time.ts";

/** How an MCP client is shown to users. */
export interface ClientFacts {
  readonly id: string;
  readonly name?: string;
  /** `document`: its metadata is published at the host of `id`; `registered`: it chose its name; `known`: pre-registered. */
  readonly source: "document" | "registered" | "known";
}

/** Dependencies of the portal. */
export interface PortalDeps {
  readonly routes: CurrentRoutes;
  readonly store: Pick<
    Store,
    | "upstreamTokens"
    | "authorizationServerRecords"
    | "delegations"
    | "grantedMembers"
    | "pendingAuthorizations"
  >;
  readonly signIn: Pick<SignIn, "person" | "begin" | "csrfToken" | "csrfMatches">;
  readonly externalTokens: Pick<ExternalTokens, "identify" | "verify">;
  readonly people: Pick<People, "read">;
  readonly upstreamOAuth: Pick<
    UpstreamOAuth,
    "begin" | "notice" | "finish" | "clientMetadataDocument" | "clientJwks"
  >;
  /** The path to append to a server's URL in listings; default: `mcp.server.path`. */
  readonly endpointPath?: UpstreamOAuth["endpointPath"];
  readonly upstreamTokens: Pick<UpstreamTokens, "connectionState" | "disconnect" | "end">;
  /** Whether policy currently allows this user to reach the route. */
  readonly mayReach: (person: Subject, route: Route) => boolean;
  /** Never rejects: an unknown client has only its id. */
  readonly describeClient: (clientId: string) => Promise<ClientFacts>;
  readonly logger: Logger;
}

/** An MCP server and the state of a user's connection to it. */
export interface ServerState {
  readonly route: Route;
  /** The URL for MCP clients. */
  readonly url: string;
  readonly state: Awaited<ReturnType<UpstreamTokens["connectionState"]>>["state"];
}

/** The MCP servers that policy allows the caller to use, in the order of the routes file. */
export function reachableRoutes(
  { routes, mayReach }: Pick<PortalDeps, "routes" | "mayReach">,
  caller: Subject,
): readonly Route[] {
  return routes().config.routes.filter(
    (route) => route.mcp.kind === "server" && route.enabled && mayReach(caller, route),
  );
}

/**
 * Checks the user's connections. Refreshes expired tokens first. A server that does not answer in time is unavailable.
 * Rejects only if the store does.
 */
export function serverStates(
  { upstreamTokens, endpointPath }: Pick<PortalDeps, "upstreamTokens" | "endpointPath">,
  userId: string,
  routes: readonly Route[],
): Promise<ServerState[]> {
  const { atOnce, eachMs, allMs } = pagePace;
  return mapInTime(
    routes,
    // Each of the two answers has its own time: one that is late does not take the other with it.
    { atOnce, eachMs: allMs, allMs },
    async (route): Promise<ServerState> => {
      const found = upstreamTokens.connectionState(userId, route);
      const path = Promise.resolve(listedPath(route) ?? endpointPath?.(route) ?? "");
      const [{ state }, below] = await Promise.all([
        withDeadline(found, eachMs, () => ({ state: "unavailable" }) as const),
        withDeadline(path, eachMs, () => ""),
      ]);
      return { route, url: route.resource + below, state };
    },
    (route) => ({ route, url: route.resource + (listedPath(route) ?? ""), state: "unavailable" }),
  );
}
