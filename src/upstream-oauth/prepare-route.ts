import type { RouteTable } from "../config/route-table.ts";
import { consentAuth, type Route } from "../model/route.ts";
import type { ClientRegistration } from "../store/client-registrations.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import { scopesFor } from "./authorization-request.ts";
import type { AuthMethods, ClientKeys } from "./client-authentication.ts";
import { clientUrls } from "./client-metadata.ts";
import { deleteRegistration } from "./client-registration.ts";
import { createClients } from "./clients.ts";
import { Discovery } from "./discovery.ts";
import { doctor } from "./doctor.ts";
import { checkIssuer, knownAt, ownersOf } from "./issuer-ownership.ts";
import { createMetadataCache } from "./metadata-cache.ts";
import type { RouteFetch } from "./route-fetch.ts";
import { credentialOwner } from "./server-metadata.ts";
import type { Prepared } from "./upstream-oauth.ts";

interface PrepareDeps {
  readonly store: Store;
  readonly routeFetch: RouteFetch;
  readonly keys: ClientKeys;
  readonly authMethods: AuthMethods;
  readonly logger: Pick<Logger, "warn" | "info">;
  /** Size of the metadata cache. */
  readonly entries: number;
}

const nothingToUndo = async () => {};

/**
 * Discovery, and client registration if the route has no client, as the first user would run them. Stores nothing but a registration, and
 * nothing if it fails.
 *
 * @param table the route table that would contain the route
 */
export async function prepareRoute(
  deps: PrepareDeps,
  route: Route,
  table: RouteTable,
): Promise<Prepared | { readonly failed: unknown }> {
  const { store } = deps;
  const planned = { ...deps, routes: () => table };
  const discovery = new Discovery({ ...planned, cache: createMetadataCache({ entries: deps.entries }) });
  const found = await doctor({ ...planned, discovery }, route, () => {});
  if (!found.ok) return found;
  const auth = consentAuth(route);
  if (!found.needed || auth === undefined || auth.endpoint) return { ...found, undo: nothingToUndo };
  let undo = nothingToUndo;
  try {
    const { authorizationServerUrl } = auth;
    const server = await discovery.server(route, { authorizationServerUrl });
    const identity = { ...server.as, named: server.named };
    checkIssuer(table.config, route, auth, identity, await knownAt(store, ownersOf(identity)));
    const { redirectUri } = clientUrls(table, route, credentialOwner(server));
    const registration = () => store.clientRegistrations.find(server.as.issuer, redirectUri, true);
    const before = await registration();
    undo = async () => takeBack(deps, route, before, await registration());
    const clients = createClients({ ...planned, store: withoutKeeping(store) });
    const { scopes } = scopesFor(auth, server);
    const { client } = await clients.forConsent(route, auth, server, scopes);
    return {
      ...found,
      discovery: {
        issuer: server.as.issuer,
        authorization_endpoint: server.as.authorization_endpoint,
        token_endpoint: server.as.token_endpoint,
        scopes: [...scopes],
        client_id: client.clientId,
        registered_how: client.source,
        at: new Date().toISOString(),
      },
      undo: () => undo().catch(() => {}),
    };
  } catch (failed) {
    await undo().catch(() => {});
    return { failed };
  }
}

/** The first user's authorization records which issuer a client belongs to, not a route that may not be stored. */
function withoutKeeping(store: Store): Store {
  const { find } = store.clientIssuers;
  return {
    ...store,
    clientIssuers: {
      find,
      keep: async (client, issuer, named) => (!named && (await find(client))) || issuer,
    },
  };
}

/** Deletes a registration that was made since `before`, here and at its server. */
async function takeBack(
  { store, routeFetch }: Pick<PrepareDeps, "store" | "routeFetch">,
  route: Route,
  before: ClientRegistration | undefined,
  now: ClientRegistration | undefined,
): Promise<void> {
  if (now === undefined || before !== undefined) return;
  await store.clientRegistrations.delete(now.issuer, now.redirectUri, now.clientId);
  await deleteRegistration(now, routeFetch.fetchFor(route));
}
