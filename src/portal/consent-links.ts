import { randomBytes } from "node:crypto";
import Router from "@koa/router";
import type { Context, Middleware } from "koa";
import { connectOrigin } from "../config/callback-urls.ts";
import { askedAt, pathBelow } from "../config/paths.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import type { Route } from "../model/route.ts";
import { confirmConnectionPage } from "../pages/confirm-connection-page.ts";
import { errorPage, messagePage } from "../pages/error-page.ts";
import { consentLinksPerHour, countPerHour, TooManyConsentLinks } from "../server/http/limits.ts";
import { hideUrl, queryParameter, readForm, requestId } from "../server/http/request.ts";
import { sendPage } from "../server/http/send-page.ts";
import type { BrowserSession, SignIn } from "../sign-in/sign-in.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { readFailureCode } from "../upstream-oauth/failures.ts";
import type { UpstreamOAuth } from "../upstream-oauth/upstream-oauth.ts";
import type { UpstreamTokens } from "../upstream-tokens/upstream-tokens.ts";
import { boundedCache } from "../util/bounded-cache.ts";
import type { Agreed } from "./confirm-connection.ts";
import { consentDonePath, pathOf } from "./connection-request.ts";
import { cancelledPage, notConnectedPage, rejections } from "./consent-link-ends.ts";
import type { ClientFacts } from "./server-states.ts";

/** Whose call needs a connection to which route. */
export interface WantedConsent {
  readonly userId: string;
  /** With `askedPath` where the client uses an endpoint below the route. */
  readonly route: Route;
  readonly clientId: string;
  /** The client's grant at the gateway. */
  readonly grantId?: string;
  /** The aggregated route through which the client uses `route`. */
  readonly aggregate?: Pick<Route, "id">;
}

/** The payload of a stored link. */
interface ConsentLink {
  readonly routeId: string;
  /** `Route.askedPath` */
  readonly path?: string;
  readonly clientId: string;
  readonly grantId?: string;
  /** Id of the aggregated route. */
  readonly aggregate?: string;
}

export interface ConsentLinks {
  /**
   * Creates a link where this user, and nobody else, can connect the route: valid for 10 minutes, for one use. It contains a random
   * handle, and neither a credential nor personal data. For a member of an aggregated route, the grant's last link is returned again
   * while it is new and unused.
   * @throws (rejects) StoreUnavailable; TooManyConsentLinks
   */
  create(wanted: WantedConsent): Promise<string>;
  readonly router: Router;
}

interface ConsentLinkDeps {
  readonly routes: CurrentRoutes;
  readonly store: Pick<Store, "pendingAuthorizations">;
  readonly signIn: Pick<SignIn, "person" | "begin" | "csrfToken" | "csrfMatches">;
  readonly upstreamOAuth: Pick<UpstreamOAuth, "notice">;
  readonly upstreamTokens: Pick<UpstreamTokens, "connectionState">;
  readonly mayReach: (person: BrowserSession, route: Route) => boolean;
  readonly describeClient: (clientId: string) => Promise<ClientFacts>;
  /** Called once when the user has allowed a grant of an aggregated route to use this route. */
  readonly onAllowed?: (allowed: {
    readonly userId: string;
    readonly grantId: string;
    /** Id of the aggregated route. */
    readonly aggregate: string;
    readonly routeId: string;
    readonly requestId: string;
  }) => Promise<unknown>;
  readonly logger: Logger;
  readonly metrics?: Metrics;
}

/** A link that the signed-in user may use. */
interface Opened {
  readonly handle: string;
  readonly link: ConsentLink;
  readonly route: Route;
  readonly person: BrowserSession;
}

const linkMs = 10 * 60_000;
/** How long a link is returned again; then enough of its life is left. */
const reuseMs = 5 * 60_000;
/** From the button to the confirmation on the issuer's host, through the route's host. */
const agreedMs = 60_000;
const newHandle = () => randomBytes(32).toString("base64url");

/**
 * Consent that a call has asked for (MCP, URL mode elicitation): a page on the issuer's host names the application, the server and the
 * user, and its button starts the upstream's consent. No browser began such a flow, so the subject of the call takes its place: only
 * that user gets the page, in any browser. Opening a link changes nothing.
 */
export function createConsentLinks(deps: ConsentLinkDeps): ConsentLinks {
  const { routes, store, signIn, upstreamTokens } = deps;
  const { prefix } = routes().config.paths;
  const path = `${prefix}/mcp/consent`;
  const counts = countPerHour();
  /** Handles of links for members of aggregated routes, by what they are for. */
  const recent = boundedCache<string, string>(10_000, { ttl: reuseMs });
  const router = new Router();
  const issuerOnly: Middleware = (ctx, next) =>
    ctx.host === new URL(routes().config.issuer).host ? next() : undefined;

  router.get(consentDonePath(prefix), issuerOnly, showDone);
  router.get(`${path}/:handle`, issuerOnly, async (ctx) => {
    const opened = await open(ctx);
    if (opened) await show(ctx, opened);
  });
  router.post(`${path}/:handle`, issuerOnly, async (ctx) => {
    const form = await readForm(ctx);
    const opened = await open(ctx);
    if (!opened) return;
    if (!signIn.csrfMatches(ctx, form.get("csrf"))) return reject(ctx, 403, "csrf");
    // The link stays usable: the page that says so has a button for it.
    if (form.get("decision") !== "allow") return seeOther(ctx, `${ctx.path}?cancelled=1`);
    const scopes = (form.get("scope") ?? "").split(" ").filter(Boolean);
    await allow(ctx, opened, { server: form.get("server") ?? "", scopes });
  });

  /** The link and its user; undefined if the request has been answered. Does not consume the link. */
  async function open(ctx: Context): Promise<Opened | undefined> {
    hideUrl(ctx);
    const person = await signIn.person(ctx);
    if (!person) {
      seeOther(ctx, await signIn.begin(ctx, ctx.path));
      return undefined;
    }
    const { handle } = ctx.params;
    const pending = await store.pendingAuthorizations.find<ConsentLink>("consent_link", handle);
    const link = pending?.payload;
    const plain = routes().byId(link?.routeId ?? "");
    const route = plain && askedAt(plain, pathBelow(plain, plain.resource + (link?.path ?? "")));
    if (!link || !route?.enabled || route.mcp.kind !== "server") {
      reject(ctx, 400, "link_unknown");
      return undefined;
    }
    if (pending.userId !== person.userId) {
      reject(ctx, 403, "other_person", `${prefix}/sign_in?${switchTo(ctx.path)}`);
      return undefined;
    }
    if (!deps.mayReach(person, route)) {
      reject(ctx, 403, "not_allowed");
      return undefined;
    }
    return { handle, link, route, person };
  }

  async function show(ctx: Context, { link, route, person }: Opened): Promise<void> {
    const { state } = await upstreamTokens.connectionState(person.userId, route);
    if (state === "unavailable") return reject(ctx, 503, "temporarily_unavailable");
    const connected = state !== "missing";
    if (connected && link.aggregate === undefined) return seeOther(ctx, doneUrl(route));
    if (queryParameter(ctx, "cancelled") === "1") return showCancelled(ctx, { link, route }, connected);
    const csrf = signIn.csrfToken(ctx);
    if (!csrf) return reject(ctx, 403, "signed_out");
    const [client, notice] = await Promise.all([
      deps.describeClient(link.clientId),
      connected ? undefined : deps.upstreamOAuth.notice(person.userId, route),
    ]);
    const unknown = { server: new URL(route.upstream).host, foreign: false, scopes: [], added: [] };
    const page = confirmConnectionPage({
      route,
      person: person.email ?? person.name ?? person.userId,
      client,
      through: routes().byId(link.aggregate ?? "")?.name,
      upstream: connected ? undefined : (notice ?? unknown),
      action: ctx.path,
      csrf,
      switchAccount: `${prefix}/sign_in?${switchTo(ctx.path)}`,
    });
    sendPage(ctx, 200, page, route.logoUrl ? [route.logoUrl] : []);
  }

  /** What "Cancel" means for the application, and the way back. */
  async function showCancelled(
    ctx: Context,
    { link, route }: Pick<Opened, "link" | "route">,
    connected: boolean,
  ): Promise<void> {
    const { name: client } = await deps.describeClient(link.clientId);
    const page = cancelledPage({ client, server: route.name, connected, link: ctx.path });
    sendPage(ctx, 200, page);
  }

  /** Consumes the link. Continues with the upstream's consent on the host where the route is connected, unless it is connected already. */
  async function allow(
    ctx: Context,
    { handle, route, person }: Opened,
    shown: Agreed["shown"],
  ): Promise<void> {
    const taken = await store.pendingAuthorizations.consume<ConsentLink>("consent_link", handle);
    if (!taken || taken.userId !== person.userId) return reject(ctx, 400, "link_unknown");
    const { grantId, aggregate } = taken.payload;
    if (grantId !== undefined && aggregate !== undefined)
      await deps.onAllowed?.({
        ...{ userId: person.userId, grantId, aggregate, routeId: route.id },
        requestId: requestId(ctx.req),
      });
    const { state } = await upstreamTokens.connectionState(person.userId, route);
    if (state === "connected" || state === "not_needed") return seeOther(ctx, doneUrl(route));
    const agreed = newHandle();
    const { sessionName: session } = person;
    const returnTo = doneUrl(route);
    const payload: Agreed = { routeId: route.id, ...pathOf(route), returnTo, session, shown };
    await keep("agreed", agreed, person.userId, agreedMs, payload);
    const query = new URLSearchParams({
      route: route.id,
      ...pathOf(route),
      redirect_url: returnTo,
      session,
      agreed,
    });
    seeOther(ctx, `${connectOrigin(routes().config, route)}${prefix}/mcp/connect?${query}`);
  }

  /** The last page. Says that the route is connected only if it is: anyone can create a link to this page. */
  async function showDone(ctx: Context): Promise<void> {
    hideUrl(ctx);
    const person = await signIn.person(ctx);
    if (!person) return seeOther(ctx, await signIn.begin(ctx, ctx.path + ctx.search));
    const route = routes().byId(queryParameter(ctx, "route") ?? "");
    if (!route?.enabled || !deps.mayReach(person, route)) return reject(ctx, 400, "invalid_request");
    const asked = askedAt(route, pathBelow(route, route.resource + (queryParameter(ctx, "path") ?? "")));
    const { state } = await upstreamTokens.connectionState(person.userId, asked ?? route);
    const error = queryParameter(ctx, "connect_error");
    const action = { label: "Your connections", href: `${prefix}/routes` };
    if (error === undefined && (state === "connected" || state === "not_needed")) {
      const text = `${route.name} is connected. Go back to your application: it can continue. You can close this page.`;
      return sendPage(ctx, 200, messagePage({ title: "Connected", text, action }));
    }
    const reason = readFailureCode(ctx.query.connect_error_reason);
    sendPage(ctx, 200, notConnectedPage({ server: route.name, error, reason, action }));
  }

  function doneUrl(route: Route): string {
    const query = new URLSearchParams({ route: route.id, ...pathOf(route) });
    return `${routes().config.issuer}${consentDonePath(prefix)}?${query}`;
  }

  async function keep(
    kind: "consent_link" | "agreed",
    state: string,
    userId: string,
    ms: number,
    payload: object,
  ): Promise<void> {
    const dropped = await store.pendingAuthorizations.create(
      { kind, state, userId, expiresAt: new Date(Date.now() + ms), payload },
      routes().config.limits.pendingAuthorizationsPerUser,
    );
    if (dropped > 0) deps.metrics?.limitsReached.inc({ limit: "pending_authorizations_per_user" }, dropped);
  }

  function reject(ctx: Context, status: number, code: keyof typeof rejections, switchAccount?: string): void {
    const id = requestId(ctx.req);
    deps.logger.info({ requestId: id, reason: code, host: ctx.host }, "consent link rejected");
    const action = switchAccount ? { label: "Use another account", href: switchAccount } : undefined;
    const page = errorPage({ title: "Not connected", ...rejections[code], code, requestId: id, action });
    sendPage(ctx, status, page);
  }

  async function newLink(userId: string, payload: ConsentLink): Promise<string> {
    if (!counts.take(userId, consentLinksPerHour)) {
      deps.metrics?.limitsReached.inc({ limit: "consent_links_per_user" });
      throw new TooManyConsentLinks();
    }
    const handle = newHandle();
    await keep("consent_link", handle, userId, linkMs, payload);
    return handle;
  }

  /** The last link for the same if it has not been used, else a new one. */
  async function recentLink(userId: string, payload: ConsentLink): Promise<string> {
    const key = JSON.stringify([userId, payload]);
    const before = recent.get(key);
    if (before && (await store.pendingAuthorizations.find("consent_link", before))) return before;
    const handle = await newLink(userId, payload);
    recent.set(key, handle);
    return handle;
  }

  return {
    router,
    async create({ userId, route, clientId, grantId, aggregate }) {
      const payload: ConsentLink = {
        routeId: route.id,
        ...pathOf(route),
        clientId,
        grantId,
        aggregate: aggregate?.id,
      };
      const handle = await (aggregate ? recentLink : newLink)(userId, payload);
      return `${routes().config.issuer}${path}/${handle}`;
    },
  };
}

function switchTo(path: string): URLSearchParams {
  return new URLSearchParams({ switch: "1", return_to: path });
}

function seeOther(ctx: Context, location: string): void {
  ctx.status = 303;
  ctx.redirect(location);
}
