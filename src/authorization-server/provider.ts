import Provider, { type KoaContextWithOIDC } from "oidc-provider";
import { ownCookieName } from "../config/cookies.ts";
import { requestId } from "../server/http/request.ts";
import { createFindAccount, tokenClaims } from "./accounts.ts";
import { createRecordAdapter } from "./adapter.ts";
import type { AuthorizationServerDeps } from "./authorization-server.ts";
import { createClientFetches } from "./client-fetches.ts";
import { applyClientMetadataRules } from "./client-rules.ts";
import { type Explanation, explainError, type Failure, sendError } from "./errors.ts";
import { createInteractionPolicy } from "./interaction-policy.ts";
import { sentBasicWithoutSecret } from "./normalize-requests.ts";
import { createRefreshRotation } from "./refresh-rotation.ts";
import { grantOfRequest } from "./remembered-consent.ts";
import { createResourceServers } from "./resources.ts";
import { restrictErrorRedirects } from "./restrict-error-redirects.ts";

const hour = 3600;

/**
 * oidc-provider, set up as the authorization server of MCP clients: code flow with S256, RFC 9068 tokens bound to one resource,
 * rotating refresh tokens, RFC 7591 registration, Client ID Metadata Documents, RFC 7009 and RFC 7662. Rebuilt when the signing
 * keys change; everything else is read from the configuration on each request.
 */
export function createProvider(deps: AuthorizationServerDeps): Provider {
  const { routes, keys } = deps;
  const fetches = createClientFetches(deps);
  const resourceServers = createResourceServers(deps);
  const rotation = createRefreshRotation(deps);
  const tokens = () => routes().config.externalTokens;
  const secure = routes().config.issuer.startsWith("https:");
  const provider = new Provider(routes().config.issuer, {
    adapter: createRecordAdapter(deps, rotation),
    jwks: { keys: keys.privateKeys("external_token") },
    routes: {
      authorization: "/oauth/authorize",
      token: "/oauth/token",
      registration: "/oauth/register",
      revocation: "/oauth/revoke",
      introspection: "/oauth/introspect",
      jwks: "/oauth/jwks",
      end_session: "/oauth/session/end",
    },
    cookies: {
      names: {
        session: ownCookieName("as_session", secure),
        interaction: ownCookieName("as_interaction", secure, "__Secure-"),
        resume: ownCookieName("as_resume", secure, "__Secure-"),
      },
      long: { httpOnly: true, sameSite: "lax", secure, path: "/" },
      short: { httpOnly: true, sameSite: "lax", secure },
    },
    responseTypes: ["code"],
    scopes: ["openid", "offline_access"],
    clientAuthMethods: ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"],
    clientDefaults: {
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
      id_token_signed_response_alg: "ES256",
      token_endpoint_auth_method: "client_secret_basic",
    },
    enabledJWA: { idTokenSigningAlgValues: ["ES256"] },
    pkce: { required: () => true },
    allowOmittingSingleRegisteredRedirectUri: false,
    clientBasedCORS: () => true,
    extraClientMetadata: {
      properties: ["software_id", "software_version"],
      validator(_ctx, key, _value, metadata) {
        if (key === "software_id") applyClientMetadataRules(metadata);
      },
    },
    features: {
      devInteractions: { enabled: false },
      userinfo: { enabled: false },
      rpInitiatedLogout: { enabled: false },
      revocation: { enabled: true, allowedPolicy: ownToken },
      introspection: { enabled: true, allowedPolicy: ownToken },
      registration: { enabled: true, issueRegistrationAccessToken: false },
      clientIdMetadataDocument: {
        enabled: true,
        ack: "draft-02",
        allowFetch: (ctx, id) => fetches.mayUseDocument(ctx, id) && fetches.mayFetchDocument(ctx, id),
        allowClient: (ctx, client) => fetches.mayUseDocument(ctx, client.clientId),
        cacheDuration: { min: 60, max: hour },
      },
      resourceIndicators: {
        enabled: true,
        defaultResource: resourceServers.fallback,
        getResourceServerInfo: resourceServers.info,
        useGrantedResource: () => true,
      },
    },
    // Drops oidc-provider's own dispatcher: ours enforces which addresses may be reached.
    fetch: (url, options) => {
      const { dispatcher: _dispatcher, ...init } = { dispatcher: undefined, ...options };
      return fetches.fetch(String(url), init);
    },
    interactions: {
      policy: createInteractionPolicy(deps),
      url: (_ctx, interaction) => `/oauth/interaction/${interaction.uid}`,
    },
    findAccount: createFindAccount(deps, rotation),
    loadExistingGrant: (ctx) => grantOfRequest(ctx, deps),
    extraTokenClaims: (ctx, token) => tokenClaims(ctx, token, deps),
    // Neither signing out of the browser nor a missing `offline_access` ends a grant.
    expiresWithSession: () => false,
    issueRefreshToken: (_ctx, client) => client.grantTypeAllowed("refresh_token"),
    rotateRefreshToken: true,
    revokeGrantPolicy: () => true,
    ttl: {
      AccessToken: () => tokens().ttl,
      AuthorizationCode: 60,
      IdToken: hour,
      Interaction: hour,
      Session: 2 * hour,
      Grant: () => tokens().refreshAbsoluteTtl,
      RefreshToken: (_ctx, token) => {
        const age = Math.floor(Date.now() / 1000) - (token.iiat ?? Math.floor(Date.now() / 1000));
        return Math.max(1, Math.min(tokens().refreshIdleTtl, tokens().refreshAbsoluteTtl - age));
      },
    },
    renderError: (ctx, _out, error) => sendError(ctx, error, explanation(ctx, error)),
  });
  const failures = new WeakMap<object, Failure>();
  function explanation(ctx: KoaContextWithOIDC, error: Failure): Explanation | undefined {
    if (fetches.retryAfter(ctx.req) !== undefined)
      return {
        happened: "too many unknown applications are being looked up",
        remedy: "try again later",
      };
    const id = ctx.oidc?.params?.client_id ?? ctx.query.client_id;
    return explainError(error, {
      id: typeof id === "string" ? id : undefined,
      fault: fetches.documentFault(ctx.req),
    });
  }

  // Trusted proxy: Envoy and the public listener set X-Forwarded-Proto and remove a client's X-Forwarded-Host.
  provider.proxy = true;
  provider.use(async (ctx, next) => {
    await next();
    rotation.finish(ctx);
    const seconds = fetches.retryAfter(ctx.req);
    if (seconds === undefined || ctx.status < 400) return;
    ctx.status = 429;
    ctx.set("retry-after", String(seconds));
  });
  provider.use(async (ctx, next) => {
    await next();
    if (ctx.status < 400 || !isErrorAnswer(ctx.body)) return;
    // RFC 6749 section 5.2: a client that used the Authorization header gets WWW-Authenticate.
    if (ctx.status === 401 && sentBasicWithoutSecret(ctx.req))
      ctx.set("www-authenticate", `Basic realm="${provider.issuer}", error="${ctx.body.error}"`);
    const failure = failures.get(ctx);
    const found = failure && isOidc(ctx) ? explanation(ctx, failure) : undefined;
    const words = found && [found.happened, found.remedy].filter(Boolean).join("; ");
    ctx.body = {
      ...ctx.body,
      ...(words !== undefined && { error_description: words }),
      request_id: requestId(ctx.req),
    };
  });
  report(provider, deps, (ctx, failure) => {
    failures.set(ctx, failure);
    return explanation(ctx, failure)?.happened;
  });
  restrictErrorRedirects(provider, deps, explanation);
  return provider;
}

/** A client may revoke and introspect only its own tokens. */
function ownToken(_ctx: unknown, client: { clientId: string }, token: { clientId?: string }): boolean {
  return token.clientId === client.clientId;
}

function isErrorAnswer(body: unknown): body is { readonly error: string } {
  return typeof body === "object" && body !== null && "error" in body && typeof body.error === "string";
}

function isOidc(ctx: object): ctx is KoaContextWithOIDC {
  return "oidc" in ctx;
}

/**
 * Logs every rejected request and every failure.
 * @param explain overrides oidc-provider's description if defined
 */
function report(
  provider: Provider,
  { logger, metrics }: AuthorizationServerDeps,
  explain: (ctx: KoaContextWithOIDC, failure: Failure) => string | undefined,
): void {
  const rejected = (ctx: KoaContextWithOIDC, error: Failure) =>
    logger.info(
      {
        code: error.error ?? error.message,
        reason: [explain(ctx, error) ?? error.error_description, error.error_detail]
          .filter(Boolean)
          .join(": "),
        clientId: ctx.oidc?.client?.clientId,
        requestId: requestId(ctx.req),
      },
      "authorization server rejected the request",
    );
  provider.on("authorization.error", rejected);
  provider.on("grant.error", rejected);
  provider.on("registration_create.error", rejected);
  provider.on("revocation.error", rejected);
  provider.on("introspection.error", rejected);
  provider.on("server_error", (ctx, error) => {
    metrics.errors.inc({ component: "authorization-server", code: "server_error" });
    logger.error(
      { code: "server_error", reason: error.message, requestId: requestId(ctx.req) },
      "request failed",
    );
  });
  provider.onerror = (error) => {
    // A client that disconnects, or sends garbage after its request, is not our error.
    const clientError = "code" in error && /^(?:HPE_|ECONNRESET|EPIPE|ERR_STREAM)/.test(String(error.code));
    logger[clientError ? "debug" : "error"]({ code: "unexpected", reason: error.message }, "request failed");
  };
}
