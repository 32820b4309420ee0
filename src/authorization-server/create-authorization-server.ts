import Router from "@koa/router";
import type { Context, Middleware, Next } from "koa";
import type Provider from "oidc-provider";
import { onlyRouteOf, routeOfResource } from "../config/resources.ts";
import type { RouteTable } from "../config/route-table.ts";
import { whichServerPage } from "../pages/consent-page.ts";
import { hideUrl, openCors, readForm, requestId } from "../server/http/request.ts";
import { sendPage } from "../server/http/send-page.ts";
import { withDeadline } from "../util/deadline.ts";
import type { AuthorizationServerDeps } from "./authorization-server.ts";
import { clientSource } from "./client-rules.ts";
import { createInteractions } from "./interactions.ts";
import { answerForExternalTokens } from "./introspection.ts";
import { authorizationServerMetadata, protectedResourceMetadata } from "./metadata.ts";
import { type BodyKind, browserRequest, clientRequest } from "./normalize-requests.ts";
import { createProvider } from "./provider.ts";

/** The authorization server for MCP clients, as middleware of the public listener. */
export interface AuthorizationServer {
  readonly middleware: ReturnType<Router["routes"]>;
  /** Describes a client. Never rejects; the name is missing if its document does not arrive within a second. */
  describeClient(
    clientId: string,
  ): Promise<{ id: string; name?: string; source: "document" | "registered" | "known" }>;
  close(): void;
}

interface Running {
  readonly issuer: string;
  readonly provider: Provider;
  readonly handle: ReturnType<Provider["callback"]>;
}

/**
 * Builds the authorization server: endpoints and interaction pages on the issuer's host, metadata there and on every route's host.
 * Paths use `paths.prefix` at startup; a new prefix requires a restart.
 */
export function createAuthorizationServer(deps: AuthorizationServerDeps): AuthorizationServer {
  const { routes, keys } = deps;
  let running: Running | undefined;
  const unsubscribe = keys.onChange(() => {
    running = undefined;
  });

  function current(): Running {
    const { issuer } = routes().config;
    if (running?.issuer !== issuer) {
      const provider = createProvider(deps);
      answerForExternalTokens(provider, deps);
      running = { issuer, provider, handle: provider.callback() };
    }
    return running;
  }

  const interactions = createInteractions(deps, () => current().provider);
  const onIssuer = (ctx: Context) => ctx.host === new URL(routes().config.issuer).host;
  const routeOrigin = (ctx: Context) =>
    routes().config.routes.find((route) => route.host === ctx.host)?.origin;
  const issuerOnly: Middleware = (ctx, next) => (onIssuer(ctx) ? next() : undefined);

  /** Passes a browser's request to oidc-provider under oidc-provider's path. */
  const provide =
    (path: (ctx: Context) => string) =>
    async (ctx: Context): Promise<void> => {
      ctx.respond = false;
      ctx.req.url = path(ctx) + ctx.search;
      await browserRequest.run(ctx, () => current().handle(ctx.req, ctx.res));
    };

  /** Passes a client's own request to oidc-provider. */
  const provideTo =
    (path: string, kind: BodyKind) =>
    async (ctx: Context): Promise<void> => {
      const request = await clientRequest(ctx, kind);
      request.url = path + ctx.search;
      ctx.respond = false;
      await browserRequest.run(ctx, () => current().handle(request, ctx.res));
    };

  /** Resumes an authorization after a step, for the browser and the user that it belongs to. */
  async function resume(ctx: Context): Promise<void> {
    const may = await browserRequest.run(ctx, () => interactions.mayResume(ctx));
    if (may) await provide(() => ctx.path)(ctx);
  }

  async function register(ctx: Context): Promise<void> {
    if (routes().config.authorizationServer.dynamicClientRegistration) {
      return provideTo("/oauth/register", "json")(ctx);
    }
    ctx.status = 403;
    ctx.set("cache-control", "no-store");
    ctx.body = {
      error: "registration_not_supported",
      error_description:
        "dynamic client registration is disabled; use a Client ID Metadata Document, or ask the operator to add the client",
      request_id: requestId(ctx.req),
    };
  }

  async function authorize(ctx: Context): Promise<void> {
    const query = authorizationParameters(new URLSearchParams(ctx.querystring));
    if (askForServer(ctx, query, routes())) return;
    ctx.search = query.size > 0 ? `?${query}` : "";
    return provide(() => "/oauth/authorize")(ctx);
  }

  /** Redirects a posted request (RFC 6749 section 3.1) to a GET: browsers send our SameSite cookies only with that. */
  async function authorizePosted(ctx: Context, next: Next): Promise<void> {
    if (!onIssuer(ctx) && !routeOrigin(ctx)) return next();
    const given = new URLSearchParams([...new URLSearchParams(ctx.querystring), ...(await readForm(ctx))]);
    const query = withResource(ctx, authorizationParameters(given));
    hideUrl(ctx);
    ctx.status = 303;
    ctx.redirect(`${routes().config.issuer}/oauth/authorize?${query}`);
  }

  /** On a route's host: adds the resource, which clients of the 2025-03-26 revision do not send. */
  function withResource(ctx: Context, query: URLSearchParams): URLSearchParams {
    const only = onIssuer(ctx) ? undefined : onlyRouteOf(routes(), ctx.host);
    if (only && !query.has("resource")) query.set("resource", only.resource);
    return query;
  }

  async function authorizeHere(ctx: Context, next: Next): Promise<void> {
    if (onIssuer(ctx)) return authorize(ctx);
    if (!routeOrigin(ctx)) return next();
    const query = withResource(ctx, authorizationParameters(new URLSearchParams(ctx.querystring)));
    ctx.set("cache-control", "no-store");
    ctx.redirect(`${routes().config.issuer}/oauth/authorize?${query}`);
  }

  const router = new Router();
  const json = openCors("GET");
  const form = openCors("POST");
  const { prefix } = routes().config.paths;

  const document = (path: string | RegExp, answer: Middleware) => {
    router.get(path, json, answer);
    router.options(path, json);
  };
  document(/^\/\.well-known\/oauth-protected-resource(\/.*)?$/, (ctx) =>
    protectedResourceMetadata(ctx, routes),
  );
  document("/.well-known/oauth-authorization-server", (ctx) => {
    const origin = onIssuer(ctx) ? undefined : routeOrigin(ctx);
    if (onIssuer(ctx) || origin) publish(ctx, authorizationServerMetadata(routes().config, origin));
  });
  document("/.well-known/openid-configuration", (ctx) => {
    if (onIssuer(ctx)) publish(ctx, authorizationServerMetadata(routes().config));
  });
  document("/.well-known/pomerium/jwks.json", (ctx) => publish(ctx, keys.jwks("assertion")));
  document("/oauth/jwks", (ctx) => {
    if (onIssuer(ctx)) publish(ctx, keys.jwks("external_token"));
  });

  router.get("/oauth/authorize", issuerOnly, authorize);
  router.post("/oauth/authorize", issuerOnly, authorizePosted);
  router.get("/oauth/authorize/:uid", issuerOnly, resume);
  router.get("/oauth/interaction/:uid", issuerOnly, (ctx) => interactions.show(ctx));
  router.post("/oauth/interaction/:uid", issuerOnly, (ctx) => interactions.decide(ctx));
  router.get(`${prefix}/mcp/authorize`, authorizeHere);
  router.post(`${prefix}/mcp/authorize`, authorizePosted);
  for (const [name, handler] of [
    ["token", provideTo("/oauth/token", "form")],
    ["revoke", provideTo("/oauth/revoke", "form")],
    ["introspect", provideTo("/oauth/introspect", "form")],
    ["register", register],
  ] as const) {
    for (const path of [`/oauth/${name}`, `${prefix}/mcp/${name}`]) {
      router.post(path, form, handler);
      router.options(path, form);
    }
  }

  async function describeClient(id: string) {
    const found = current()
      .provider.Client.find(id)
      .catch(() => undefined);
    const client = await withDeadline(found, 1000, () => undefined);
    return { id, name: client?.clientName, source: clientSource(routes().config, id) };
  }

  return { middleware: router.routes(), describeClient, close: unsubscribe };
}

function publish(ctx: Context, document: object): void {
  ctx.set("cache-control", "public, max-age=300");
  ctx.body = document;
}

/** In characters. */
const maxAddressLength = 2000;

/**
 * A client that sends no `resource` (RFC 8707) does not say which of several MCP servers it wants. A page asks the user for the
 * server's address and repeats the request with that address as the resource.
 *
 * @param query the authorization request's parameters; the page's answer is removed from it
 * @returns whether the request was answered with the page
 */
function askForServer(ctx: Context, query: URLSearchParams, table: RouteTable): boolean {
  const entered = query.get("server");
  query.delete("server");
  const isKnown = query.has("resource") || onlyRouteOf(table, ctx.host) || onlyRouteOf(table);
  const isRequest = query.has("client_id") && query.get("response_type") === "code";
  const mayAsk = isRequest && !query.get("prompt")?.split(" ").includes("none");
  // Only browsers accept HTML.
  if (isKnown || !mayAsk || !ctx.get("accept").includes("text/html")) return false;
  const resource = entered === null ? undefined : addressOf(entered);
  if (resource !== undefined && routeOfResource(table, resource)) {
    query.set("resource", resource);
    return false;
  }
  const { issuer, paths } = table.config;
  const page = whichServerPage({
    action: `${issuer}/oauth/authorize`,
    parameters: query,
    connections: `${paths.prefix}/routes`,
    isUnknown: entered !== null,
  });
  sendPage(ctx, entered === null ? 200 : 400, page);
  return true;
}

/** Users omit the scheme and copy spaces and fragments. */
function addressOf(entered: string): string | undefined {
  const text = entered.trim().slice(0, maxAddressLength);
  const url = URL.parse(/^https?:\/\//i.test(text) ? text : `https://${text}`);
  if (url === null) return undefined;
  url.hash = "";
  return url.href;
}

/** OpenID Connect parameters, which oidc-provider rejects without the scope openid. Dropping them never weakens a check. */
const withOpenidOnly = new Set(["nonce", "acr_values", "claims", "claims_locales", "id_token_hint"]);
const prompts = new Set(["none", "login", "consent"]);
/** Credentials that a client may post; they must not end up in a URL. */
const secrets = new Set(["client_secret", "client_assertion", "client_assertion_type"]);

/**
 * The parameters of an authorization request that apply here. Left out are parameters without a value (RFC 6749 section 3.1),
 * unknown values of `prompt` (`select_account`) and, without the scope openid, those that only OpenID Connect defines.
 */
function authorizationParameters(given: URLSearchParams): URLSearchParams {
  const read = new URLSearchParams();
  const openid = given.getAll("scope").some((scope) => scope.split(" ").includes("openid"));
  for (const [name, value] of given) {
    if (value === "" || secrets.has(name) || (!openid && withOpenidOnly.has(name))) continue;
    const kept =
      name === "prompt"
        ? value
            .split(/ +/)
            .filter((one) => prompts.has(one))
            .join(" ")
        : value;
    if (kept !== "") read.append(name, kept);
  }
  return read;
}
