import type { Context } from "koa";
import type Provider from "oidc-provider";
import type { Route } from "../model/route.ts";
import type { Subject } from "../model/subject.ts";
import { consentPage } from "../pages/consent-page.ts";
import { notAllowedPage } from "../pages/sign-in-pages.ts";
import { requestId } from "../server/http/request.ts";
import { sendPage } from "../server/http/send-page.ts";
import type { ConsentNotice } from "../upstream-oauth/upstream-oauth.ts";
import { mapInTime, pagePace } from "../util/map-in-time.ts";
import type { AuthorizationServerDeps } from "./authorization-server.ts";
import { consentFacts, describeMembers } from "./consent-facts.ts";
import { type Finish, redirect, rejectExpired, rejectForged, type Step } from "./interaction.ts";
import { deniedByPolicy } from "./interaction-policy.ts";
import { offeredMembers, readChoice } from "./member-consent.ts";

/** The user's consent to the MCP client: its page and its form. */
export function createConsentStep(
  deps: AuthorizationServerDeps,
  { finish, provider }: { readonly finish: Finish; readonly provider: () => Provider },
) {
  const { routes, store, signIn, upstreamTokens, metrics } = deps;

  async function show(ctx: Context, step: Step): Promise<void> {
    const { interaction, person, route } = step;
    const client = await provider().Client.find(String(interaction.params.client_id));
    const csrf = signIn.csrfToken(ctx);
    if (!client || !csrf) return rejectExpired(ctx);
    if (!deps.mayReach(person, route)) return notAllowed(ctx, { ...step, client, csrf });
    const { state } = await upstreamTokens.connectionState(person.userId, route);
    metrics.consents.inc({ kind: "client", outcome: "started" });
    const [notice] = state === "missing" ? await noticesOf(person, [route]) : [];
    const members = await describeMembers(deps, person, route, noticesOf);
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
      members,
      action: ctx.path,
      csrf,
      switchAccount: `${routes().config.paths.prefix}/sign_in?${switchAccount}`,
      connections: `${routes().config.paths.prefix}/routes`,
    });
    const logos = [route, ...(members ?? [])].flatMap(({ logoUrl }) => (logoUrl ? [logoUrl] : []));
    sendPage(ctx, 200, page, logos);
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
    }: Step & {
      readonly client: NonNullable<Awaited<ReturnType<Provider["Client"]["find"]>>>;
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

  /** Where the consent of each upstream would lead, if known in time; the connect page looks it up again. */
  async function noticesOf(
    { userId }: Subject,
    asked: readonly Route[],
  ): Promise<readonly (ConsentNotice | undefined)[]> {
    const ask = async (one: Route) => deps.upstreamNotice?.(userId, one);
    return mapInTime(asked, { ...pagePace, allMs: pagePace.eachMs }, ask, () => undefined);
  }

  /** @param step.route undefined if it no longer exists: the authorization then fails with its next step */
  async function decide(
    ctx: Context,
    { interaction, person, route }: Omit<Step, "route"> & { readonly route: Route | undefined },
    form: URLSearchParams,
  ): Promise<void> {
    const decision = form.get("decision");
    const allowed = route === undefined || deps.mayReach(person, route);
    // Policy has changed since the page was shown: show that.
    if (decision === "allow" && !allowed) return redirect(ctx, ctx.path);
    if (decision === "allow") {
      metrics.consents.inc({ kind: "client", outcome: "granted" });
      const members = readChoice(form, route ? offeredMembers(deps, person, route) : []);
      return finish(ctx, interaction, { consent: {}, members });
    }
    if (decision !== "deny") return rejectForged(ctx);
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

  return { show, decide };
}
