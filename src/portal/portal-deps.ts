import type { CurrentRoutes } from "../config/route-table.ts";
import type { ExternalTokens } from "../external-token/external-tokens.ts";
import type { Route } from "../model/route.ts";
import type { PolicyCaller } from "../model/subject.ts";
import type { SignIn } from "../sign-in/sign-in.ts";
import type { People } from "../store/people.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { UpstreamOAuth } from "../upstream-oauth/upstream-oauth.ts";
import type { UpstreamTokens } from "../upstream-token/upstream-tokens.ts";

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
  readonly mayReach: (person: PolicyCaller, route: Route) => boolean;
  /** Never rejects: a client we cannot learn about is known by its id. */
  readonly describeClient: (clientId: string) => Promise<ClientFacts>;
  readonly logger: Logger;
}
