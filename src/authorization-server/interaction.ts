import type { Context } from "koa";
import type Provider from "oidc-provider";
import type { InteractionResults } from "oidc-provider";
import { routeOfResource } from "../config/resources.ts";
import type { RouteTable } from "../config/route-table.ts";
import type { Route } from "../model/route.ts";
import { errorPage } from "../pages/error-page.ts";
import { hideUrl, requestId } from "../server/http/request.ts";
import { sendPage } from "../server/http/send-page.ts";
import type { BrowserSession } from "../sign-in/sign-in.ts";
import type { AuthorizationServerDeps } from "./authorization-server.ts";

/** A step of an authorization flow that waits for the user, as oidc-provider stores it. */
export type Interaction = Awaited<ReturnType<Provider["interactionDetails"]>>;

/** A step that this browser has started, its user and its route. */
export interface Step {
  readonly interaction: Interaction;
  readonly person: BrowserSession;
  readonly route: Route;
}

/** Completes a step and resumes the authorization. */
export type Finish = (ctx: Context, interaction: Interaction, result: InteractionResults) => Promise<void>;

/** When the flow of a step began: with its first step. Unix seconds. */
export const begunAt = ({ iat, lastSubmission }: Pick<Interaction, "iat" | "lastSubmission">): number =>
  typeof lastSubmission?.begunAt === "number" ? lastSubmission.begunAt : iat;

export function createFinish(
  { metrics }: Pick<AuthorizationServerDeps, "metrics">,
  provider: () => Provider,
): Finish {
  return async (ctx, interaction, result) => {
    metrics.authorizationStepDuration.observe(
      { step: interaction.prompt.name, outcome: typeof result.error === "string" ? result.error : "ok" },
      Math.max(0, Date.now() / 1000 - interaction.iat),
    );
    const begun = begunAt(interaction);
    if (result.error !== undefined)
      metrics.authorizationDuration.observe(
        { kind: "client", outcome: result.error === "access_denied" ? "denied" : "failed" },
        Math.max(0, Date.now() / 1000 - begun),
      );
    // oidc-provider keeps it for the next step, on whichever replica, and for the grant.
    redirect(ctx, await provider().interactionResult(ctx.req, ctx.res, { ...result, begunAt: begun }));
  };
}

/** The route that the authorization request names. */
export function routeOfInteraction(table: RouteTable, { params }: Interaction): Route | undefined {
  const { resource } = params;
  const one = Array.isArray(resource) ? resource[0] : resource;
  return typeof one === "string" ? routeOfResource(table, one) : undefined;
}

/** Repeats the authorization request from its first step. */
export function startOver(ctx: Context, { params }: Interaction): void {
  redirect(ctx, `/oauth/authorize?${new URLSearchParams(asQuery(params))}`);
}

export function redirect(ctx: Context, location: string): void {
  hideUrl(ctx);
  ctx.status = 303;
  ctx.redirect(location);
}

/** The error code with which the connect page returned; untrusted. */
export function readConnectError(given: unknown): string {
  return typeof given === "string" && /^[\w.:-]{1,64}$/.test(given) ? given : "consent_incomplete";
}

export function rejectExpired(ctx: Context): void {
  problem(ctx, 400, "interaction_unknown", {
    happened: "This authorization was started in another browser, is already complete, or took too long.",
    remedy: "Go back to the application and connect again.",
  });
}

export function rejectForged(ctx: Context): void {
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

function asQuery(params: Record<string, unknown>): [string, string][] {
  return Object.entries(params).flatMap(([name, value]) =>
    (Array.isArray(value) ? value : [value]).flatMap((one): [string, string][] =>
      typeof one === "string" ? [[name, one]] : [],
    ),
  );
}
