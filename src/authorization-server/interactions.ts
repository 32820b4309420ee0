import type { Context } from "koa";
import type Provider from "oidc-provider";
import { errors, type InteractionResults } from "oidc-provider";
import { connectOrigin } from "../config/callback-urls.ts";
import type { Route } from "../model/route.ts";
import { consentPage } from "../pages/consent-page.ts";
import { errorPage } from "../pages/error-page.ts";
import { notAllowedPage } from "../pages/sign-in-pages.ts";
import { hideUrl, readForm, requestId } from "../server/http/request.ts";
import { sendPage } from "../server/http/send-page.ts";
import type { BrowserSession } from "../sign-in/sign-in.ts";
import { isDenial, notConnected, readFailureCode, readUpstreamAnswer } from "../upstream-oauth/failures.ts";
import type { ConsentNotice } from "../upstream-oauth/upstream-oauth.ts";
import { withDeadline } from "../util/deadline.ts";
import type { AuthorizationServerDeps } from "./authorization-server.ts";
import { deniedByPolicy, otherPerson } from "./interaction-policy.ts";
import { browserRequest } from "./normalize-requests.ts";
import { consentFacts } from "./remembered-consent.ts";
import { routeOfResource } from "./resources.ts";

type Interaction = Awaited<ReturnType<Provider["interactionDetails"]>>;

/** Errors of an upstream's consent that the client gets unchanged (RFC 6749 section 4.1.2.1); others become server_error. */
const passedOn = new Set(["access_denied", "temporarily_unavailable", "server_error"]);

/** Reasons for a sign-in step that the browser session satisfies regardless of its age. */
const answeredByBrowserSession = new Set(["no_session", otherPerson]);

/** How long a page waits for a slow upstream. */
const noticeTimeoutMs = 3_000;

/** The interactive steps of an authorization flow: sign-in, consent, the upstream's consent. One URL, `/oauth/interaction/:uid`. */
export function createInteractions(deps: AuthorizationServerDeps, provider: () => Provider) {
  const { routes, store, signIn, upstreamTokens, metrics } = deps;

  /** This browser's interaction and its user; undefined if the request has been answered. */
  async function load(
    ctx: Context,
  ): Promise<{ interaction: Interaction; person: BrowserSession } | undefined> {
    const interaction = await startedHere(ctx);
    if (!interaction) {
      expired(ctx);
      return undefined;
    }
    const person = await signIn.person(ctx);
    if (!person) {
      redirect(ctx, await signIn.begin(ctx, ctx.path + ctx.search));
      return undefined;
    }
    if (interaction.session && interaction.session.accountId !== person.userId) {
      // Another user has signed in since: the steps so far were not theirs.
      startOver(ctx, interaction);
      return undefined;
    }
    return { interaction, person };
  }

  /** The interaction that both URL and cookie name, if this browser started it (checked by the record adapter). */
  async function startedHere(ctx: Context): Promise<Interaction | undefined> {
    try {
      const interaction = await provider().interactionDetails(ctx.req, ctx.res);
      return interaction.uid === ctx.params.uid ? interaction : undefined;
    } catch (error) {
      if (error instanceof errors.SessionNotFound) return undefined;
      throw error;
    }
  }

  /**
   * Whether the authorization may resume in this browser: it must have started here, and its user must still be signed in. If not,
   * the request has been answered.
   */
  async function mayResume(ctx: Context): Promise<boolean> {
    const { uid } = ctx.params;
    const named = ctx.cookies.get(provider().cookieName("resume"));
    const interaction = named === uid ? await provider().Interaction.find(uid) : undefined;
    if (!interaction) {
      expired(ctx);
      return false;
    }
    const userId = interaction.result?.login?.accountId ?? interaction.session?.accountId;
    if (userId === undefined || (await signIn.person(ctx))?.userId === userId) return true;
    startOver(ctx, interaction);
    return false;
  }

  async function show(ctx: Context): Promise<void> {
    const loaded = await load(ctx);
    if (!loaded) return;
    const { interaction, person } = loaded;
    if (interaction.prompt.name === "login") return login(ctx, interaction, person);
    const route = routeOf(interaction);
    if (!route)
      return finish(ctx, interaction, {
        error: "invalid_target",
        error_description: "the MCP server no longer exists",
      });
    if (interaction.prompt.name === "consent") return askConsent(ctx, interaction, person, route);
    return upstream(ctx, interaction, person, route);
  }

  async function login(ctx: Context, interaction: Interaction, person: BrowserSession): Promise<void> {
    const again = interaction.prompt.reasons.some((reason) => !answeredByBrowserSession.has(reason));
    if (again && person.checkedAt < interaction.iat) {
      const query = new URLSearchParams({ switch: "1", return_to: ctx.path });
      return redirect(ctx, `${routes().config.paths.prefix}/sign_in?${query}`);
    }
    return finish(ctx, interaction, { login: { accountId: person.userId, ts: person.checkedAt } });
  }

  async function askConsent(
    ctx: Context,
    interaction: Interaction,
    person: BrowserSession,
    route: Route,
  ): Promise<void> {
    const client = await provider().Client.find(String(interaction.params.client_id));
    const csrf = signIn.csrfToken(ctx);
    if (!client || !csrf) return expired(ctx);
    if (!deps.mayReach(person, route)) return notAllowed(ctx, { interaction, client, person, route, csrf });
    const { state } = await upstreamTokens.connectionState(person.userId, route);
    metrics.consents.inc({ kind: "client", outcome: "started" });
    const notice = state === "missing" ? await noticeOf(person, route) : undefined;
    const facts = consentFacts({
      config: routes().config,
      client,
      interaction,
      person,
      route,
      state,
      notice,
    });
    const switchAccount = new URLSearchParams({ switch: "1", return_to: ctx.path });
    const page = consentPage({
      ...facts,
      action: ctx.path,
      csrf,
      switchAccount: `${routes().config.paths.prefix}/sign_in?${switchAccount}`,
      connections: `${routes().config.paths.prefix}/routes`,
    });
    sendPage(ctx, 200, page, route.logoUrl ? [route.logoUrl] : []);
  }

  /** Informs the user before anything is asked. The button returns `access_denied` to the client. */
  function notAllowed(
    ctx: Context,
    {
      interaction,
      client,
      person,
      route,
      csrf,
    }: {
      readonly interaction: Interaction;
      readonly client: NonNullable<Awaited<ReturnType<Provider["Client"]["find"]>>>;
      readonly person: BrowserSession;
      readonly route: Route;
      readonly csrf: string;
    },
  ): void {
    const { config } = routes();
    const id = requestId(ctx.req);
    const about = { requestId: id, userId: person.userId, clientId: client.clientId, route: route.id };
    deps.logger.info({ ...about, reason: "not_allowed" }, "authorization denied by policy");
    const facts = consentFacts({ config, client, interaction, person, route, state: "not_needed" });
    const switchAccount = new URLSearchParams({ switch: "1", return_to: ctx.path });
    const page = notAllowedPage({
      server: route.name,
      person: facts.person,
      target: facts.redirect.target,
      action: ctx.path,
      csrf,
      switchAccount: `${config.paths.prefix}/sign_in?${switchAccount}`,
      connections: `${config.paths.prefix}/routes`,
      requestId: id,
    });
    sendPage(ctx, 403, page);
  }

  /** Where the upstream's consent would lead, if known before the timeout; the connect page looks it up again. */
  async function noticeOf(person: BrowserSession, route: Route): Promise<ConsentNotice | undefined> {
    const notice = deps.upstreamNotice?.(person.userId, route);
    return notice && withDeadline(notice, noticeTimeoutMs, () => undefined);
  }

  /** Handles the submitted consent form. */
  async function decide(ctx: Context): Promise<void> {
    const form = await readForm(ctx);
    const loaded = await load(ctx);
    if (!loaded) return;
    const { interaction, person } = loaded;
    if (!signIn.csrfMatches(ctx, form.get("csrf"))) return forged(ctx);
    if (interaction.prompt.name !== "consent") return redirect(ctx, ctx.path);
    const decision = form.get("decision");
    const route = routeOf(interaction);
    const allowed = route === undefined || deps.mayReach(person, route);
    // Policy has changed since the page was shown: show that.
    if (decision === "allow" && !allowed) return redirect(ctx, ctx.path);
    if (decision === "allow") {
      metrics.consents.inc({ kind: "client", outcome: "granted" });
      return finish(ctx, interaction, { consent: {} });
    }
    if (decision !== "deny") return forged(ctx);
    if (allowed) metrics.consents.inc({ kind: "client", outcome: "denied" });
    await store.audit({
      action: "consent.denied",
      userId: person.userId,
      clientId: String(interaction.params.client_id),
      routeId: route?.id,
      ...(!allowed && { reason: "not_allowed" }),
      requestId: requestId(ctx.req),
    });
    const error_description = allowed
      ? "the user denied the request"
      : `${deniedByPolicy}; ask its operator for access (request id ${requestId(ctx.req)})`;
    return finish(ctx, interaction, { error: "access_denied", error_description });
  }

  /** Redirects to the connect page, usually on the route's host, for the upstream's consent, and checks the result on return. */
  async function upstream(
    ctx: Context,
    interaction: Interaction,
    person: BrowserSession,
    route: Route,
  ): Promise<void> {
    const { state } = await upstreamTokens.connectionState(person.userId, route);
    if (state !== "missing") return finish(ctx, interaction, { upstream: {} });
    if (ctx.query.step === "upstream") return upstreamFailed(ctx, interaction, route);
    const query = new URLSearchParams({
      route: route.id,
      ...(route.askedPath === undefined ? {} : { path: route.askedPath }),
      redirect_url: `${routes().config.issuer}${ctx.path}?step=upstream`,
      session: person.sessionName,
    });
    const { config } = routes();
    redirect(ctx, `${connectOrigin(config, route)}${config.paths.prefix}/mcp/connect?${query}`);
  }

  async function upstreamFailed(ctx: Context, interaction: Interaction, route: Route): Promise<void> {
    const given = ctx.query.connect_error;
    const code = typeof given === "string" && /^[\w.:-]{1,64}$/.test(given) ? given : "consent_incomplete";
    const reason = readFailureCode(ctx.query.connect_error_reason);
    const error_description = isDenial(code, reason)
      ? "denied by the user at the server behind this route, or by the policy of this gateway"
      : reason === undefined
        ? `the server behind this route could not be connected (${code})`
        : notConnected(
            reason,
            readUpstreamAnswer(ctx.query),
            route.to.map((url) => new URL(url).host),
          );
    return finish(ctx, interaction, { error: passedOn.has(code) ? code : "server_error", error_description });
  }

  async function finish(ctx: Context, interaction: Interaction, result: InteractionResults): Promise<void> {
    metrics.authorizationStepDuration.observe(
      { step: interaction.prompt.name, outcome: typeof result.error === "string" ? result.error : "ok" },
      Math.max(0, Date.now() / 1000 - interaction.iat),
    );
    redirect(ctx, await provider().interactionResult(ctx.req, ctx.res, result));
  }

  function routeOf(interaction: Interaction): Route | undefined {
    const { resource } = interaction.params;
    const one = Array.isArray(resource) ? resource[0] : resource;
    return typeof one === "string" ? routeOfResource(routes(), one) : undefined;
  }

  function expired(ctx: Context): void {
    problem(ctx, 400, "interaction_unknown", {
      happened: "This authorization was started in another browser, is already complete, or took too long.",
      remedy: "Go back to the application and connect again.",
    });
  }

  function forged(ctx: Context): void {
    problem(ctx, 403, "csrf", {
      happened: "The form was not submitted from this gateway's page.",
      remedy: "Go back to the application and connect again.",
    });
  }

  function problem(
    ctx: Context,
    status: number,
    code: string,
    words: { happened: string; remedy: string },
  ): void {
    const page = errorPage({
      title: "This authorization cannot continue",
      ...words,
      code,
      requestId: requestId(ctx.req),
    });
    sendPage(ctx, status, page);
  }

  return {
    show: (ctx: Context) => browserRequest.run(ctx, () => show(ctx)),
    decide: (ctx: Context) => browserRequest.run(ctx, () => decide(ctx)),
    mayResume,
  };
}

function startOver(ctx: Context, { params }: Interaction): void {
  redirect(ctx, `/oauth/authorize?${new URLSearchParams(asQuery(params))}`);
}

function redirect(ctx: Context, location: string): void {
  hideUrl(ctx);
  ctx.status = 303;
  ctx.redirect(location);
}

function asQuery(params: Record<string, unknown>): [string, string][] {
  return Object.entries(params).flatMap(([name, value]) =>
    (Array.isArray(value) ? value : [value]).flatMap((one): [string, string][] =>
      typeof one === "string" ? [[name, one]] : [],
    ),
  );
}
