import type { Context } from "koa";
import type Provider from "oidc-provider";
import { connectOrigin } from "../config/callback-urls.ts";
import { aggregateOf } from "../model/route.ts";
import { isDenial, notConnected, readFailureCode, readUpstreamAnswer } from "../upstream-oauth/failures.ts";
import type { AuthorizationServerDeps } from "./authorization-server.ts";
import { createMemberConnections } from "./connect-members.ts";
import { type Finish, readConnectError, redirect, type Step } from "./interaction.ts";

/** Errors of an upstream's consent that the client gets unchanged (RFC 6749 section 4.1.2.1); others become server_error. */
const passedOn = new Set(["access_denied", "temporarily_unavailable", "server_error"]);

/** The consent of the route's upstream, or of the upstreams of its members. */
export function createUpstreamStep(
  deps: AuthorizationServerDeps,
  { finish, provider }: { readonly finish: Finish; readonly provider: () => Provider },
) {
  const { routes, upstreamTokens } = deps;
  const members = createMemberConnections(deps, { finish, provider });

  /** Redirects to the connect page, usually on the route's host, for the upstream's consent, and checks the result on return. */
  async function show(ctx: Context, step: Step): Promise<void> {
    const { interaction, person, route } = step;
    if (aggregateOf(route)) return members.show(ctx, step);
    const { state } = await upstreamTokens.connectionState(person.userId, route);
    if (state !== "missing") return finish(ctx, interaction, { upstream: {} });
    if (ctx.query.step === "upstream") return failed(ctx, step);
    const query = new URLSearchParams({
      route: route.id,
      ...(route.askedPath === undefined ? {} : { path: route.askedPath }),
      redirect_url: `${routes().config.issuer}${ctx.path}?step=upstream`,
      session: person.sessionName,
    });
    const { config } = routes();
    redirect(ctx, `${connectOrigin(config, route)}${config.paths.prefix}/mcp/connect?${query}`);
  }

  async function failed(ctx: Context, { interaction, route }: Step): Promise<void> {
    const code = readConnectError(ctx.query.connect_error);
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

  /** Handles the form of an aggregated route; other routes have none. */
  async function decide(ctx: Context, step: Step, form: URLSearchParams): Promise<void> {
    return aggregateOf(step.route) ? members.decide(ctx, step, form) : redirect(ctx, ctx.path);
  }

  return { show, decide };
}
