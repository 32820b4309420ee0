import type Provider from "oidc-provider";
import type { KoaContextWithOIDC } from "oidc-provider";
import type { Identified } from "../external-tokens/external-tokens.ts";
import { requestId } from "../server/http/request.ts";
import type { AuthorizationServerDeps } from "./authorization-server.ts";

/**
 * Revocation (RFC 7009) and introspection (RFC 7662) of external tokens. oidc-provider does not store JWT access tokens: after it has
 * authenticated the client, it rejects them as `unsupported_token_type`, and we take over. A client may introspect its own tokens. A
 * pre-registered client with a secret may introspect any token: it may be a resource server.
 */
export function answerForExternalTokens(provider: Provider, deps: AuthorizationServerDeps): void {
  const { store, externalTokens, routes } = deps;
  const unsupported = new WeakSet<object>();
  const note = (ctx: KoaContextWithOIDC, error: { error: string }) => {
    if (error.error === "unsupported_token_type") unsupported.add(ctx);
  };
  provider.on("revocation.error", note);
  provider.on("introspection.error", note);

  provider.use(async (ctx, next) => {
    await next();
    if (ctx.status === 503) ctx.set("retry-after", "5");
    if (!isOidc(ctx) || !unsupported.has(ctx)) return;
    const { client, params, route } = ctx.oidc;
    if (!client || typeof params?.token !== "string") return;
    const found = await externalTokens.identify(params.token);
    const known = found.ok && found.caller.kind !== "foreign" ? found : undefined;
    const own = known?.caller.clientId === client.clientId;
    if (route === "introspection") {
      const inspector = routes().config.authorizationServer.clients.some(
        ({ clientId, clientSecret }) => clientId === client.clientId && clientSecret !== undefined,
      );
      respond(ctx, known && (own || inspector) ? describe(known, provider.issuer) : { active: false });
      return;
    }
    const grantId = known?.caller.grantId;
    if (known && own && grantId) {
      await store.authorizationServerRecords.revokeGrant(grantId, {
        action: "external_token.revoked",
        userId: known.caller.userId,
        clientId: client.clientId,
        grantId,
        routeId: routes().byResource(known.audience[0] ?? "")?.id,
        reason: "revoked by the client",
        requestId: requestId(ctx.req),
      });
    }
    // RFC 7009 section 2.2: an invalid token, or another client's, is not reported as an error.
    respond(ctx, "");
  });
}

function respond(ctx: KoaContextWithOIDC, body: Record<string, unknown> | string): void {
  ctx.remove("content-security-policy");
  ctx.status = 200;
  ctx.body = body;
  ctx.set("cache-control", "no-store");
}

function describe({ caller, audience, token }: Identified, issuer: string): Record<string, unknown> {
  return {
    active: true,
    iss: issuer,
    sub: caller.userId,
    client_id: caller.clientId,
    aud: audience.length === 1 ? audience[0] : audience,
    scope: caller.scopes.join(" ") || undefined,
    exp: caller.expiresAt,
    iat: token.issuedAt,
    jti: token.id,
    token_type: "Bearer",
  };
}

function isOidc(ctx: object): ctx is KoaContextWithOIDC {
  return "oidc" in ctx;
}
