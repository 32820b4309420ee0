import type { Context } from "koa";
import type Provider from "oidc-provider";
import { connectOrigin } from "../config/callback-urls.ts";
import { consentAuth, type Route } from "../model/route.ts";
import { type ConnectMembersPage, connectMembersPage } from "../pages/connect-members-page.ts";
import { sendPage } from "../server/http/send-page.ts";
import { type FailureCode, failureInWords, readFailureCode } from "../upstream-oauth/failures.ts";
import type { AuthorizationServerDeps } from "./authorization-server.ts";
import {
  type Finish,
  readConnectError,
  redirect,
  rejectExpired,
  rejectForged,
  type Step,
} from "./interaction.ts";
import { type MemberState, memberName, memberStates, namedMembers, namesIn } from "./member-consent.ts";

/**
 * What the user has done on the page so far, by `memberName`. It is in the page's URL and its forms, so that reloading and going back
 * work; it is untrusted and only decides what the page says and when it ends.
 */
interface Progress {
  readonly skipped: Set<string>;
  /** Error code and reason of the latest attempt. */
  readonly failed: Map<string, { readonly code: string; readonly reason?: FailureCode }>;
}

/**
 * The upstream consents of an aggregated route's members, in one flow: a page lists the members that the user has allowed and that
 * need the user's consent, and leads to each of them and back. Every member can be skipped, a failure concerns only its member, and
 * the client gets its code in any case: a member can be connected later.
 */
export function createMemberConnections(
  deps: AuthorizationServerDeps,
  { finish, provider }: { readonly finish: Finish; readonly provider: () => Provider },
) {
  const { routes, signIn } = deps;

  /** The members that this step is about and that need the user's consent; those that moved or are gone are left out. */
  function membersOfStep({ interaction, route, person }: Step): readonly Route[] {
    const named = namedMembers(deps, route, namesIn(interaction.prompt.details.members));
    return named.filter((member) => consentAuth(member) !== undefined && deps.mayReach(person, member));
  }

  async function show(ctx: Context, step: Step): Promise<void> {
    const { interaction, person, route } = step;
    const members = membersOfStep(step);
    const states = await memberStates(deps, person.userId, members);
    const progress = readProgress(new URLSearchParams(ctx.querystring), members);
    recordReturn(ctx, progress, members);
    const listed = states.flatMap((state) => pageMember(state, progress));
    if (!listed.some(({ state }) => state === "missing")) return finish(ctx, interaction, { upstream: {} });
    const client = await provider().Client.find(String(interaction.params.client_id));
    const csrf = signIn.csrfToken(ctx);
    if (!client || !csrf) return rejectExpired(ctx);
    const page = connectMembersPage({
      client: client.clientName,
      server: route.name,
      person: person.email ?? person.name ?? person.userId,
      members: listed,
      progress: [...writeProgress(progress)],
      action: ctx.path,
      csrf,
      connections: `${routes().config.paths.prefix}/routes`,
    });
    const logos = listed.flatMap(({ logoUrl }) => (logoUrl ? [logoUrl] : []));
    sendPage(ctx, 200, page, logos);
  }

  async function decide(ctx: Context, step: Step, form: URLSearchParams): Promise<void> {
    const decision = form.get("decision");
    if (decision === "continue") return finish(ctx, step.interaction, { upstream: {} });
    if (decision !== "connect" && decision !== "skip") return rejectForged(ctx);
    const members = membersOfStep(step);
    const progress = readProgress(form, members);
    const name = form.get("member") ?? "";
    const member = members.find((one) => memberName(one) === name);
    if (!member) return redirect(ctx, here(ctx, progress));
    progress.failed.delete(name);
    if (decision === "skip") {
      progress.skipped.add(name);
      return redirect(ctx, here(ctx, progress));
    }
    progress.skipped.delete(name);
    const { config } = routes();
    const query = new URLSearchParams({
      route: member.id,
      redirect_url: `${config.issuer}${here(ctx, progress, name)}`,
      session: step.person.sessionName,
    });
    redirect(ctx, `${connectOrigin(config, member)}${config.paths.prefix}/mcp/connect?${query}`);
  }

  return { show, decide };
}

/** A member as the page shows it; none if its server does not answer, or needs no consent. */
function pageMember(
  { route, state }: MemberState,
  { failed, skipped }: Progress,
): ConnectMembersPage["members"] {
  if (state !== "missing" && state !== "connected") return [];
  const { name, description, resource, logoUrl } = route;
  const key = memberName(route);
  const shown = { key, name, description, resource, logoUrl };
  if (state === "connected") return [{ ...shown, state }];
  const failure = failed.get(key);
  const problem = failure && failureInWords(failure.code, failure.reason);
  return [{ ...shown, state: skipped.has(key) ? "skipped" : state, problem }];
}

/** The page with this progress. @param tried the member that the browser now leaves for */
function here(ctx: Context, progress: Progress, tried?: string): string {
  const query = writeProgress(progress);
  query.set("step", "upstream");
  if (tried !== undefined) query.set("tried", tried);
  return `${ctx.path}?${query}`;
}

function writeProgress({ skipped, failed }: Progress): URLSearchParams {
  return new URLSearchParams([
    ...[...skipped].map((name) => ["skipped", name]),
    ...[...failed].map(([name, { code, reason }]) => ["failed", [name, code, reason ?? ""].join(" ")]),
  ]);
}

/** Ignores names that are not among the members. */
function readProgress(given: URLSearchParams, members: readonly Route[]): Progress {
  const known = new Set(members.map(memberName));
  const failed = given.getAll("failed").flatMap((entry) => {
    const [name = "", code, reason] = entry.split(" ");
    return known.has(name)
      ? [[name, { code: readConnectError(code), reason: readFailureCode(reason) }] as const]
      : [];
  });
  return {
    skipped: new Set(given.getAll("skipped").filter((name) => known.has(name))),
    failed: new Map(failed),
  };
}

/** Records how the connect page has ended for the member that the browser left for. */
function recordReturn(ctx: Context, { failed }: Progress, members: readonly Route[]): void {
  const { tried } = ctx.query;
  if (typeof tried !== "string" || !members.some((member) => memberName(member) === tried)) return;
  // Shown only if the member is still not connected.
  const reason = readFailureCode(ctx.query.connect_error_reason);
  failed.set(tried, { code: readConnectError(ctx.query.connect_error), reason });
}
