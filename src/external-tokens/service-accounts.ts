import { randomUUID } from "node:crypto";
import { SignJWT } from "jose";
import { needsPersonsConnection, type Route } from "../model/route.ts";
import { serviceAccountId } from "../model/subject.ts";
import type { AuditCause, AuditEvent } from "../store/audit-events.ts";
import type { GrantSummary } from "../store/authorization-server-records.ts";
import type { Store } from "../store/store.ts";
import type { SigningKeyRing } from "./signing-keys.ts";

/** A service account of this name exists; its tokens are valid until it is revoked. */
export class ServiceAccountExists extends Error {
  readonly code = "service_account_exists";
  constructor(name: string) {
    super(`a service account "${name}" already exists; revoke it first`);
  }
}

/** A service account, as listed. */
export interface ServiceAccount {
  readonly name: string;
  /** `service-account/NAME`, as policies name it. */
  readonly userId: string;
  readonly grantId: string;
  readonly routeIds: readonly string[];
  /** The person who may let it use their connections. */
  readonly ownerId?: string;
  /** Those of `routeIds` whose connection the owner has delegated. */
  readonly delegatedRouteIds: readonly string[];
  readonly createdAt: Date;
  readonly expiresAt: Date;
}

/** Service accounts with long-lived external tokens. Each account is a grant, so that its revocation ends its tokens within a second. */
export interface ServiceAccounts {
  /**
   * Creates one external token per route, as a token is valid for one route only. The tokens are returned once and not stored.
   * @param account.ownerId the person who may, in the portal, let it use their connections to these routes
   * @param account.members the members of aggregated routes among `routes` that it may use through them
   * @param account.lifetime seconds
   * @throws ServiceAccountExists
   */
  create(account: {
    readonly name: string;
    readonly routes: readonly Route[];
    readonly members?: readonly Route[];
    readonly ownerId?: string;
    readonly lifetime: number;
    /** Of the audit event. */
    readonly actor?: string;
  }): Promise<{ readonly account: ServiceAccount; readonly tokens: ReadonlyMap<string, string> }>;
  /** All service accounts by name, in pages. @param after begins after this one */
  list(after?: Pick<ServiceAccount, "userId" | "grantId">): AsyncIterable<readonly ServiceAccount[]>;
  /**
   * @param cause for the audit event
   * @returns false: no account has this name
   */
  revoke(name: string, cause?: AuditCause): Promise<boolean>;
}

/** The client id of all service accounts: they have no MCP client that a person would know by name. */
const clientId = serviceAccountId;
const userIdOf = (name: string) => `${serviceAccountId}/${name}`;

export function createServiceAccounts(deps: {
  readonly store: Pick<Store, "authorizationServerRecords" | "delegations">;
  readonly keys: Pick<SigningKeyRing, "signer">;
  readonly issuer: string;
  /** Unix milliseconds. */
  readonly now?: () => number;
}): ServiceAccounts {
  const { store, keys, issuer } = deps;
  const now = deps.now ?? Date.now;

  async function accountsOf(grants: readonly GrantSummary[]): Promise<ServiceAccount[]> {
    const owned = grants.filter(({ payload }) => payload.ownerId);
    const delegations = await store.delegations.ofGrants(owned.map(({ grantId }) => grantId));
    return grants.map(({ grantId, userId, payload, createdAt, expiresAt = createdAt }) => ({
      name: userId.slice(userIdOf("").length),
      userId,
      grantId,
      routeIds: Array.isArray(payload.routeIds)
        ? payload.routeIds.filter((id) => typeof id === "string")
        : [],
      ownerId: typeof payload.ownerId === "string" ? payload.ownerId : undefined,
      delegatedRouteIds: (delegations.get(grantId) ?? []).flatMap(({ routeId, delegatedAt }) =>
        delegatedAt ? [routeId] : [],
      ),
      createdAt,
      expiresAt: typeof payload.exp === "number" ? new Date(payload.exp * 1000) : expiresAt,
    }));
  }

  const grantsOf = (userId: string) => store.authorizationServerRecords.grants({ userId, clientId });

  return {
    async create({ name, routes, members = [], ownerId, lifetime, actor }) {
      const userId = userIdOf(name);
      if ((await grantsOf(userId)).length > 0) throw new ServiceAccountExists(name);
      const grantId = randomUUID();
      const iat = Math.floor(now() / 1000);
      const exp = iat + lifetime;
      const routeIds = routes.map(({ id }) => id);
      const tokens = new Map<string, string>();
      for (const { id, resource } of routes) {
        const { kid, key } = keys.signer("external_token");
        const token = await new SignJWT({ client_id: clientId, grant_id: grantId })
          .setProtectedHeader({ alg: "ES256", typ: "at+jwt", kid })
          .setIssuer(issuer)
          .setSubject(userId)
          .setAudience(resource)
          .setIssuedAt(iat)
          .setExpirationTime(exp)
          .setJti(randomUUID())
          .sign(key);
        tokens.set(id, token);
      }
      const expiresAt = new Date(exp * 1000);
      const payload = {
        kind: "Grant",
        jti: grantId,
        accountId: userId,
        clientId,
        iat,
        exp,
        routeIds,
        ownerId,
      };
      const record = { model: "Grant", id: grantId, payload, expiresAt };
      const audit: AuditEvent = {
        action: "service_account.created",
        actor,
        userId,
        clientId,
        grantId,
        detail: {
          routes: routeIds.join(" "),
          expires: expiresAt.toISOString(),
          ...(ownerId !== undefined && { owner: ownerId }),
          ...(members.length > 0 && { members: members.map(({ id }) => id).join(" ") }),
        },
      };
      const needing = [...routes, ...members].filter(needsPersonsConnection);
      const needingOwner = [...new Set(needing.map(({ id }) => id))];
      const asked =
        ownerId === undefined ? undefined : { account: userId, ownerId, expiresAt, routeIds: needingOwner };
      const granted = members.map(({ id, upstream }) => ({ routeId: id, upstream }));
      await store.authorizationServerRecords.upsert(record, audit, asked, granted);
      const createdAt = new Date(iat * 1000);
      const account = {
        name,
        userId,
        grantId,
        routeIds,
        ownerId,
        delegatedRouteIds: [],
        createdAt,
        expiresAt,
      };
      return { account, tokens };
    },
    async *list(after) {
      for await (const grants of store.authorizationServerRecords.grantPages({ clientId }, after))
        yield await accountsOf(grants);
    },
    async revoke(name, cause) {
      const userId = userIdOf(name);
      const grants = await grantsOf(userId);
      for (const { grantId } of grants) {
        await store.authorizationServerRecords.revokeGrant(grantId, {
          action: "service_account.revoked",
          userId,
          clientId,
          grantId,
          ...cause,
        });
      }
      return grants.length > 0;
    },
  };
}
