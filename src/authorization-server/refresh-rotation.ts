import Provider, { type AdapterPayload, errors, type KoaContextWithOIDC } from "oidc-provider";
import { routeOfResource } from "../config/resources.ts";
import { requestId } from "../server/http/request.ts";
import type { AuditEvent } from "../store/audit-events.ts";
import type { AuthorizationServerRecord } from "../store/authorization-server-records.ts";
import type { AuthorizationServerDeps } from "./authorization-server.ts";
import { orUnavailable } from "./errors.ts";

/** What a token request does with its refresh token. */
interface Use {
  /** The token was already used, within the grace period. */
  repeats?: boolean;
  /** The token to consume when its successor is stored. */
  usedId?: string;
  /** The token that the client gets instead of the one that oidc-provider has generated. */
  successor?: string;
}

/**
 * Refresh token rotation in one transaction, and what happens to a used refresh token. There is a grace period: a client that lost the
 * answer to a refresh, or sends two at once, may use its token again within `external_tokens.refresh_token_grace` and gets the same
 * successor while that is unused (RFC 9700 section 4.14.2 leaves this to the server). A repeat passes all checks of the first use, and
 * policy as well. Later, or if the successor has been used, oidc-provider rejects the token and revokes its grant: two parties hold it.
 */
export interface RefreshRotation {
  /** A stored record as oidc-provider sees it. A consumed one is marked as used, unless the current request may repeat this refresh token. */
  seen(record: AuthorizationServerRecord): Promise<AdapterPayload>;
  /** Whether the current request repeats a used token. */
  repeats(ctx: KoaContextWithOIDC): boolean;
  /** Defers consuming a token until its successor is stored; false if the current request is not a refresh. */
  deferConsume(usedId: string): boolean;
  /**
   * Stores a successor; false if the token is not one.
   * @throws errors.InvalidGrant the predecessor was used before, and its successor must not be returned again
   */
  store(id: string, payload: AdapterPayload, expiresAt: Date | undefined): Promise<boolean>;
  /** Revokes a grant for oidc-provider, which does so when a used code or refresh token is presented. */
  revokeGrant(grantId: string): Promise<void>;
  /** Replaces the refresh token in a repeated answer. */
  finish(ctx: { body?: unknown }): void;
}

export function createRefreshRotation(
  deps: Pick<AuthorizationServerDeps, "routes" | "store">,
): RefreshRotation {
  const records = deps.store.authorizationServerRecords;
  const uses = new WeakMap<object, Use>();
  const grace = () => deps.routes().config.externalTokens.refreshTokenGrace;

  /** The current request, if it is a refresh. */
  function current(): { ctx: KoaContextWithOIDC; use: Use } | undefined {
    const { ctx } = Provider;
    if (ctx?.oidc?.route !== "token" || ctx.oidc.params?.grant_type !== "refresh_token") return undefined;
    const use = uses.get(ctx) ?? {};
    uses.set(ctx, use);
    return { ctx, use };
  }

  async function mayRepeat(usedId: string): Promise<boolean> {
    const found = current();
    if (!found || grace() === 0) return false;
    if ((await orUnavailable(records.successorOf(usedId))) === undefined) return false;
    found.use.repeats = true;
    return true;
  }

  return {
    async seen({ id, model, payload, consumedAt }) {
      if (!consumedAt || (model === "RefreshToken" && (await mayRepeat(id)))) return payload;
      return { ...payload, consumed: Math.floor(consumedAt.getTime() / 1000) };
    },
    repeats: (ctx) => uses.get(ctx)?.repeats === true,
    deferConsume(usedId) {
      const found = current();
      if (found) found.use.usedId = usedId;
      return found !== undefined;
    },
    async store(id, payload, expiresAt) {
      const { ctx, use } = current() ?? {};
      const usedId = use?.usedId;
      if (!ctx || !use || usedId === undefined) return false;
      use.usedId = undefined;
      const seconds = grace();
      const rotated =
        !use.repeats &&
        (await orUnavailable(records.rotateRefreshToken(usedId, { id, payload, expiresAt }, seconds)));
      if (rotated) {
        // The grace period is shorter than the housekeeping interval. Housekeeping deletes what a stopped process leaves.
        if (seconds > 0)
          setTimeout(() => records.forgetSuccessor(usedId).catch(() => {}), seconds * 1000).unref();
        return true;
      }
      const about = {
        userId: payload.accountId,
        clientId: payload.clientId,
        grantId: payload.grantId,
        routeId:
          typeof payload.resource === "string"
            ? routeOfResource(deps.routes(), payload.resource)?.id
            : undefined,
        requestId: requestId(ctx.req),
      };
      if (seconds > 0) {
        use.successor = await orUnavailable(
          records.successorOf(usedId, { action: "refresh_token.reused", ...about }),
        );
        if (use.successor !== undefined) return true;
      }
      // The token was used before this request started: not a race, so two parties hold it.
      if (use.repeats && payload.grantId)
        await orUnavailable(
          records.revokeGrant(payload.grantId, {
            action: "grant.revoked",
            ...about,
            reason: "refresh_token_reused",
          }),
        );
      throw new errors.InvalidGrant("RefreshToken was used by another request at the same time");
    },
    async revokeGrant(grantId) {
      const audit = { action: "grant.revoked", grantId, ...whyRevoked() } as const;
      await orUnavailable(records.revokeGrant(grantId, audit));
    },
    finish(ctx) {
      const successor = uses.get(ctx)?.successor;
      const { body } = ctx;
      if (successor !== undefined && typeof body === "object" && body !== null && "refresh_token" in body)
        ctx.body = { ...body, refresh_token: successor };
    },
  };
}

/** Audit details of a grant that oidc-provider revokes in the current request. At the token endpoint the reason is always reuse. */
function whyRevoked(): Pick<AuditEvent, "userId" | "clientId" | "reason"> {
  const { route, client, params, entities } = Provider.ctx?.oidc ?? {};
  const userId = (entities?.RefreshToken ?? entities?.AuthorizationCode)?.accountId;
  const used = params?.grant_type === "refresh_token" ? "refresh_token" : "authorization_code";
  const reason = route === "token" ? `${used}_reused` : undefined;
  return { userId, clientId: client?.clientId, reason };
}
