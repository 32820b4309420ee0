import type { Context } from "koa";
import type Provider from "oidc-provider";
import { errors } from "oidc-provider";
import { readForm } from "../server/http/request.ts";
import type { BrowserSession } from "../sign-in/sign-in.ts";
import type { AuthorizationServerDeps } from "./authorization-server.ts";
import { createConsentStep } from "./consent-step.ts";
import {
  createFinish,
  type Interaction,
  redirect,
  rejectExpired,
  rejectForged,
  routeOfInteraction,
  startOver,
} from "./interaction.ts";
import { otherPerson } from "./interaction-policy.ts";
import { browserRequest } from "./normalize-requests.ts";
import { createUpstreamStep } from "./upstream-step.ts";

/** Reasons for a sign-in step that the browser session satisfies regardless of its age. */
const answeredByBrowserSession = new Set(["no_session", otherPerson]);

/** The interactive steps of an authorization flow: sign-in, consent, the upstream's consent. One URL, `/oauth/interaction/:uid`. */
export function createInteractions(deps: AuthorizationServerDeps, provider: () => Provider) {
  const { routes, signIn } = deps;
  const finish = createFinish(deps, provider);
  const consentStep = createConsentStep(deps, { finish, provider });
  const upstreamStep = createUpstreamStep(deps, { finish, provider });

  /** This browser's interaction and its user; undefined if the request has been answered. */
  async function load(
    ctx: Context,
  ): Promise<{ interaction: Interaction; person: BrowserSession } | undefined> {
    const interaction = await startedHere(ctx);
    if (!interaction) {
      rejectExpired(ctx);
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
      rejectExpired(ctx);
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
    const route = routeOfInteraction(routes(), interaction);
    if (!route)
      return finish(ctx, interaction, {
        error: "invalid_target",
        error_description: "the MCP server no longer exists",
      });
    const step = { interaction, person, route };
    return interaction.prompt.name === "consent" ? consentStep.show(ctx, step) : upstreamStep.show(ctx, step);
  }

  async function login(ctx: Context, interaction: Interaction, person: BrowserSession): Promise<void> {
    const again = interaction.prompt.reasons.some((reason) => !answeredByBrowserSession.has(reason));
    if (again && person.checkedAt < interaction.iat) {
      const query = new URLSearchParams({ switch: "1", return_to: ctx.path });
      return redirect(ctx, `${routes().config.paths.prefix}/sign_in?${query}`);
    }
    return finish(ctx, interaction, { login: { accountId: person.userId, ts: person.checkedAt } });
  }

  /** Handles the submitted form of a step. */
  async function decide(ctx: Context): Promise<void> {
    const form = await readForm(ctx);
    const loaded = await load(ctx);
    if (!loaded) return;
    if (!signIn.csrfMatches(ctx, form.get("csrf"))) return rejectForged(ctx);
    const { interaction } = loaded;
    const route = routeOfInteraction(routes(), interaction);
    if (interaction.prompt.name === "consent") return consentStep.decide(ctx, { ...loaded, route }, form);
    if (interaction.prompt.name === "upstream" && route)
      return upstreamStep.decide(ctx, { ...loaded, route }, form);
    return redirect(ctx, ctx.path);
  }

  return {
    show: (ctx: Context) => browserRequest.run(ctx, () => show(ctx)),
    decide: (ctx: Context) => browserRequest.run(ctx, () => decide(ctx)),
    mayResume,
  };
}
