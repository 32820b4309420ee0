import { maxClientNameLength } from "../config/client-metadata-rules.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import type { AuthorizationServerRecords, GrantSummary } from "../store/authorization-server-records.ts";
import { DecryptionFailed } from "../store/errors.ts";
import { mapAtOnce } from "../util/at-once.ts";
import { plainText } from "../util/plain-text.ts";

/** `clientName`: undefined for clients without a name, and for service accounts. */
export type NamedGrant = GrantSummary & { readonly clientName?: string };

/** Registrations that are read at the same time. */
const atOnce = 4;

/**
 * Adds the names of their clients to grants, without a request to the client: the configured name, else the one that was shown to the
 * user who allowed the client, else (grants of earlier versions) the registered one. Only a configured name is trustworthy.
 */
export async function withClientNames(
  deps: {
    readonly routes: CurrentRoutes;
    readonly store: { readonly authorizationServerRecords: Pick<AuthorizationServerRecords, "find"> };
  },
  grants: readonly GrantSummary[],
): Promise<NamedGrant[]> {
  const { clients } = deps.routes().config.authorizationServer;
  const names = new Map(clients.map(({ clientId, clientName }) => [clientId, clientName]));
  const earlier = new Set(
    grants.flatMap(({ payload, clientId }) => ("clientName" in payload ? [] : [clientId])),
  );
  await mapAtOnce(
    [...earlier].filter((id) => !names.has(id)),
    atOnce,
    async (id) => {
      const registered = await readRegistration(deps.store, id);
      const name = nameOf(registered?.payload.client_name);
      if (name !== undefined) names.set(id, name);
    },
  );
  return grants.map((grant) => ({
    ...grant,
    clientName: names.get(grant.clientId) ?? nameOf(grant.payload.clientName),
  }));
}

/** Undefined if its row is damaged: that must not hide its grants. */
async function readRegistration(store: Parameters<typeof withClientNames>[0]["store"], id: string) {
  try {
    return await store.authorizationServerRecords.find("Client", id);
  } catch (error) {
    if (error instanceof DecryptionFailed) return undefined;
    throw error;
  }
}

/** A client's name for a grant and its audit event: clients of earlier versions were stored without these rules. */
export function nameOf(name: unknown): string | undefined {
  return typeof name === "string" ? plainText(name).slice(0, maxClientNameLength) || undefined : undefined;
}
