import type Provider from "oidc-provider";
import { errors, type KoaContextWithOIDC } from "oidc-provider";
import { StoreUnavailable } from "../store/errors.ts";
import type { AuthorizationServerDeps } from "./authorization-server.ts";
import { clientSource, isLoopbackRedirect } from "./client-rules.ts";
import { type Explanation, type Failure, sendError } from "./errors.ts";
import { browserRequest } from "./normalize-requests.ts";
import { hasAllowed } from "./remembered-consent.ts";

type Failed = Failure & { readonly statusCode?: number };

/**
 * Shows errors of authorization requests as pages where a redirect would make us an open redirector (RFC 9700 section 4.11.2):
 * anyone can register a client with a redirect URI on their own host and trigger an error with a link to ours. Errors are returned
 * only to redirect URIs that the operator or the user has approved, or on the user's own computer.
 */
export function restrictErrorRedirects(
  provider: Provider,
  deps: AuthorizationServerDeps,
  explain: (ctx: KoaContextWithOIDC, failure: Failure) => Explanation | undefined,
): void {
  const failures = new WeakMap<object, Failed>();
  provider.on("authorization.error", (ctx, error) => failures.set(ctx, error));
  provider.on("server_error", (ctx) => {
    if (ctx.oidc.route === "authorization" || ctx.oidc.route === "resume")
      failures.set(ctx, { message: "server_error", statusCode: 500 });
  });
  provider.use(async (ctx, next) => {
    await next();
    const failure = failures.get(ctx);
    if (!failure || !isOidc(ctx) || (await mayRedirectBack(ctx, deps))) return;
    ctx.remove("location");
    ctx.status = failure.statusCode && failure.statusCode >= 400 ? failure.statusCode : 400;
    sendError(ctx, failure, explain(ctx, failure));
  });
}

async function mayRedirectBack(ctx: KoaContextWithOIDC, deps: AuthorizationServerDeps): Promise<boolean> {
  const { client, params, entities, result } = ctx.oidc;
  const redirectUri = params?.redirect_uri;
  const url = typeof redirectUri === "string" ? URL.parse(redirectUri) : null;
  if (!client || typeof redirectUri !== "string" || !url) return false;
  if (isLoopbackRedirect(url) || agreedByOperator(client.clientId, deps)) return true;
  const { prompt, result: answer } = entities.Interaction ?? {};
  const agreed = prompt?.name === "upstream" || result?.consent !== undefined;
  // A user who presses "Deny" has seen the redirect target.
  if (agreed || (prompt?.name === "consent" && answer?.error === "access_denied")) return true;
  try {
    const request = browserRequest.current();
    const person = request && (await deps.signIn.person(request.ctx));
    if (!person) return false;
    return await hasAllowed({ userId: person.userId, clientId: client.clientId, redirectUri }, deps);
  } catch (error) {
    // Without the database, earlier consents are unknown: show a page.
    if (error instanceof StoreUnavailable || error instanceof errors.OIDCProviderError) return false;
    throw error;
  }
}

/** Whether the client is pre-registered, or published on a host that the operator allows. */
function agreedByOperator(clientId: string, { routes }: AuthorizationServerDeps): boolean {
  const { config } = routes();
  const source = clientSource(config, clientId);
  switch (source) {
    case "known":
      return true;
    case "document":
      return config.authorizationServer.allowedClientIdDomains.length > 0;
    case "registered":
      return false;
    default:
      return source satisfies never;
  }
}

function isOidc(ctx: object): ctx is KoaContextWithOIDC {
  return "oidc" in ctx;
}
