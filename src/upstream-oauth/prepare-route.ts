import type { RouteTable } from "../config/route-table.ts";
import { consentAuth, type Route } from "../model/route.ts";
import type { ClientRegistration } from "../store/client-registrations.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import { scopesFor } from "./authorization-request.ts";
import type { AuthMethods, ClientKeys } from "./client-authentication.ts";
import { deleteRegistration, notesOf } from "./client-registration.ts";
import { createClients } from "./clients.ts";
import { Discovery } from "./discovery.ts";
import { doctor } from "./doctor.ts";
import { checkIssuer, knownAt, ownersOf } from "./issuer-ownership.ts";
import { createMetadataCache } from "./metadata-cache.ts";
import type { RouteFetch } from "./route-fetch.ts";
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
    const own = noteOwn(store.clientRegistrations);
    undo = async () => takeBack(deps, route, own.made());
    const clients = createClients({
      ...planned,
      store: { ...withoutKeeping(store), clientRegistrations: own.registrations },
    });
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

/** The same registrations, and the one that was made through them where there was none. Those that replace another one are not noted. */
function noteOwn(registrations: Store["clientRegistrations"]) {
  let made: ClientRegistration | undefined;
  return {
    made: () => made,
    registrations: {
      ...registrations,
      async getOrRegister(...[issuer, redirectUri, register, insteadOf]: Parameters<GetOrRegister>) {
        let answered: ClientRegistration | undefined;
        const registerHere = async () => {
          answered = await register();
          return answered;
        };
        const found = await registrations.getOrRegister(issuer, redirectUri, registerHere, insteadOf);
        const isNew = insteadOf === undefined || insteadOf.clientId === made?.clientId;
        // Another replica may have been faster: its registration is not ours.
        if (isNew && answered !== undefined && isSame(answered, found)) made = found;
        return found;
      },
    },
  };
}
type GetOrRegister = Store["clientRegistrations"]["getOrRegister"];

/** Some servers return the same client id again. */
function isSame(one: ClientRegistration, other: ClientRegistration): boolean {
  return one.clientId === other.clientId && notesOf(one).registeredAt === notesOf(other).registeredAt;
}

/** Deletes a registration that this call has made, here and at its server, unless a route that is in force may use it. */
async function takeBack(
  { store, routeFetch }: Pick<PrepareDeps, "store" | "routeFetch">,
  route: Route,
  made: ClientRegistration | undefined,
): Promise<void> {
  if (made === undefined || (await isInForce(store, route.id))) return;
  const now = await store.clientRegistrations.find(made.issuer, made.redirectUri, true);
  if (now === undefined || !isSame(made, now)) return;
  await store.clientRegistrations.delete(now.issuer, now.redirectUri, now.clientId);
  await deleteRegistration(now, routeFetch.fetchFor(route));
}

/** Asked of the database: another replica may have created or enabled the route just now. One that cannot be read may be in force elsewhere. */
async function isInForce({ storedRoutes }: Pick<Store, "storedRoutes">, id: string): Promise<boolean> {
  const { routes, unreadable } = await storedRoutes.listAll();
  return [...routes.filter(({ entry }) => entry.enabled !== false), ...unreadable].some(
    (one) => one.id === id,
  );
}
