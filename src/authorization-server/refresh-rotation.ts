import Provider, { type AdapterPayload, errors, type KoaContextWithOIDC } from "oidc-provider";
import { requestId } from "../server/http/request.ts";
import type { AuthorizationServerDeps } from "./authorization-server.ts";
import { orUnavailable } from "./errors.ts";
import { routeOfResource } from "./resources.ts";

/** What one token request does with the refresh token it brought. */
interface Use {
  /** It had been used when we looked, and may be repeated. */
  repeats?: boolean;
  /** To be used up together with its successor's storing. */
  usedId?: string;
  /** What the client gets in place of the token that oidc-provider has made. */
  successor?: string;
}

/**
 * Rotation of refresh tokens, in one transaction, with a grace: a client that never got the answer to a refresh, or sends two at once,
 * uses its token again within `external_tokens.refresh_token_grace` and gets the same successor, as long as nobody has used that
 * (RFC 9700 section 4.14.2 leaves this to the server). Everything that is checked at a first use is checked again, and policy, too.
 */
export interface RefreshRotation {
  /** Whether this used token may be repeated in the request being served: to oidc-provider it is unused then. */
  mayRepeat(usedId: string): Promise<boolean>;
  /** Whether the request being served repeats a used token. */
  repeats(ctx: KoaContextWithOIDC): boolean;
  /** Puts off using up a token until its successor is stored; false: the request being served is not a refresh. */
  deferConsume(usedId: string): boolean;
  /**
   * Stores a successor; false: the token being stored is none.
   * @throws errors.InvalidGrant the token was used before, and what had become of it must not be given out (again)
   */
  store(id: string, payload: AdapterPayload, expiresAt: Date | undefined): Promise<boolean>;
  /** Puts into a finished answer what the client is to get. */
  finish(ctx: { body?: unknown }): void;
}

export function createRefreshRotation(
  deps: Pick<AuthorizationServerDeps, "routes" | "store">,
): RefreshRotation {
  const records = deps.store.authorizationServerRecords;
  const uses = new WeakMap<object, Use>();
  const grace = () => deps.routes().config.externalTokens.refreshTokenGrace;

  /** Of the refresh being served; undefined: something else is. */
  function current(): { ctx: KoaContextWithOIDC; use: Use } | undefined {
    const { ctx } = Provider;
    if (ctx?.oidc?.route !== "token" || ctx.oidc.params?.grant_type !== "refresh_token") return undefined;
    const use = uses.get(ctx) ?? {};
    uses.set(ctx, use);
    return { ctx, use };
  }

  return {
    async mayRepeat(usedId) {
      const found = current();
      if (!found || grace() === 0) return false;
      if ((await orUnavailable(records.successorOf(usedId))) === undefined) return false;
      found.use.repeats = true;
      return true;
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
        // Housekeeping comes too seldom for what is to be kept for seconds. Whoever ends before leaves it to that.
        if (seconds > 0)
          setTimeout(() => records.forgetSuccessor(usedId).catch(() => {}), seconds * 1000).unref();
        return true;
      }
      const whose = {
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
          records.successorOf(usedId, { action: "refresh_token.reused", ...whose }),
        );
        if (use.successor !== undefined) return true;
      }
      // Somebody had used it before this request began, so it is no race: two parties hold the same token.
      if (use.repeats && payload.grantId)
        await orUnavailable(
          records.revokeGrant(payload.grantId, {
            action: "grant.revoked",
            ...whose,
            reason: "refresh_token_reused",
          }),
        );
      throw new errors.InvalidGrant("RefreshToken was used at the same time by another request");
    },
    finish(ctx) {
      const successor = uses.get(ctx)?.successor;
      const { body } = ctx;
      if (successor !== undefined && typeof body === "object" && body !== null && "refresh_token" in body)
        ctx.body = { ...body, refresh_token: successor };
    },
  };
}
