import { errors, interactionPolicy, type KoaContextWithOIDC } from "oidc-provider";
import { aggregateOf, consentAuth, type Route } from "../model/route.ts";
import { isTransient, notConnected } from "../upstream-oauth/failures.ts";
import type { AuthorizationServerDeps } from "./authorization-server.ts";
import { orUnavailable } from "./errors.ts";
import { memberStates, namedMembers, storedName } from "./member-consent.ts";
import { browserRequest } from "./normalize-requests.ts";
import { routeOfRequest } from "./resources.ts";

const { Check, Prompt } = interactionPolicy;

/** Reason for a sign-in step: oidc-provider's session and our browser session belong to different users. */
export const otherPerson = "other_person";

/** The error description for a client whose user is denied by policy. */
export const deniedByPolicy = "the policy of this gateway denies this user access to the server";

/**
 * The steps of an authorization flow, in order: sign in, consent to the client, consent at the upstream. The last step never prompts:
 * it saves the grant after all others, so that an abandoned flow leaves no grant behind.
 */
export function createInteractionPolicy(deps: AuthorizationServerDeps): interactionPolicy.DefaultPolicy {
  const policy = interactionPolicy.base();
  const consent = policy.get("consent");
  // Native apps are recognized by the redirect URI of the request, not by all that the client has registered.
  consent?.checks.remove("native_client_prompt");
  if (consent) consent.details = scopesOfRequest;
  // Checked with a remembered consent, too: no client gets a code for a user who is denied by policy.
  consent?.checks.add(
    new Check("not_allowed", deniedByPolicy, "access_denied", async (ctx) => {
      const route = routeOfRequest(ctx, deps);
      const request = browserRequest.current();
      if (!route || !request || !ctx.oidc.session?.accountId) return Check.NO_NEED_TO_PROMPT;
      const person = await orUnavailable(deps.signIn.person(request.ctx));
      const denied = person !== undefined && !deps.mayReach(person, route);
      return denied ? Check.REQUEST_PROMPT : Check.NO_NEED_TO_PROMPT;
    }),
  );
  policy.get("login")?.checks.add(
    new Check(otherPerson, "the user has to sign in", "login_required", async (ctx) => {
      const { accountId } = ctx.oidc.session ?? {};
      if (!accountId) return Check.NO_NEED_TO_PROMPT;
      const request = browserRequest.current();
      const person = request && (await orUnavailable(deps.signIn.person(request.ctx)));
      return person?.userId === accountId ? Check.NO_NEED_TO_PROMPT : Check.REQUEST_PROMPT;
    }),
  );
  policy.get("login")?.checks.add(
    new Check("sign_in_token_expired", "the server behind this route requires a new sign-in", async (ctx) => {
      const route = routeOfRequest(ctx, deps);
      const { accountId, loginTs = 0 } = ctx.oidc.session ?? {};
      // A user who has just signed in would only be redirected in a loop.
      if (!route || !accountId || Date.now() / 1000 - loginTs < 60) return Check.NO_NEED_TO_PROMPT;
      const { signInNeeded } = await orUnavailable(deps.upstreamTokens.connectionState(accountId, route));
      return signInNeeded ? Check.REQUEST_PROMPT : Check.NO_NEED_TO_PROMPT;
    }),
  );
  policy.add(
    new Prompt(
      { name: "upstream" },
      (ctx) => ({ ...scopesOfRequest(ctx), members: browserRequest.current()?.members?.map(storedName) }),
      new Check(
        "upstream_consent",
        "the server behind this route requires the user's consent",
        async (ctx) => {
          const route = routeOfRequest(ctx, deps);
          const userId = ctx.oidc.session?.accountId;
          if (!route || !userId) return Check.NO_NEED_TO_PROMPT;
          if (aggregateOf(route)) return mayConnectMembers(ctx, deps, { route, userId });
          // A client that cannot refresh comes here after an upstream's 401.
          if (!deps.routes().config.envoy.responsePath)
            await orUnavailable(deps.upstreamTokens.verify(userId, route));
          const { state, fault } = await orUnavailable(deps.upstreamTokens.connectionState(userId, route));
          // A transient failure may be over by the first call.
          if (fault && !isTransient(fault))
            throw new errors.CustomOIDCProviderError("server_error", notConnected(fault));
          return state === "missing" ? Check.REQUEST_PROMPT : Check.NO_NEED_TO_PROMPT;
        },
      ),
    ),
  );
  policy.add(
    new Prompt(
      { name: "grant" },
      new Check("grant_unsaved", "the grant is saved", async (ctx) => {
        await saveGrant(ctx, deps);
        return Check.NO_NEED_TO_PROMPT;
      }),
    ),
  );
  return policy;
}

/**
 * Whether to offer the user to connect members of an aggregated route: once per request, if one of those that the client may use lacks
 * the user's consent. Without it, the route still works.
 */
async function mayConnectMembers(
  { oidc }: KoaContextWithOIDC,
  deps: AuthorizationServerDeps,
  { route, userId }: { readonly route: Route; readonly userId: string },
): Promise<boolean> {
  if (oidc.result?.upstream !== undefined || oidc.promptPending("none")) return Check.NO_NEED_TO_PROMPT;
  const names = browserRequest.current()?.members?.map(storedName) ?? [];
  const members = namedMembers(deps, route, names).filter((member) => consentAuth(member) !== undefined);
  const states = await orUnavailable(memberStates(deps, userId, members));
  return states.some(({ state }) => state === "missing");
}

/** Stored with a step: the scopes stay the same when it completes, even if the upstream's required scopes have changed. */
function scopesOfRequest({ oidc }: KoaContextWithOIDC): { scopes: string[] } {
  const servers = Object.values(oidc.resourceServers ?? {});
  return { scopes: [...oidc.requestParamOIDCScopes, ...servers.flatMap((server) => [...server.scopes])] };
}

async function saveGrant(ctx: KoaContextWithOIDC, deps: AuthorizationServerDeps): Promise<void> {
  const { grant, client, session } = ctx.oidc;
  if (!grant || grant.jti || !client || !session) return;
  const grantId = await grant.save();
  session.ensureClientContainer(client.clientId);
  session.grantIdFor(client.clientId, grantId);
  await rememberClient(client.clientId, deps);
}

/** Extends a used registration to the maximum lifetime of its grants. */
async function rememberClient(clientId: string, deps: AuthorizationServerDeps): Promise<void> {
  const records = deps.store.authorizationServerRecords;
  const record = await orUnavailable(records.find("Client", clientId));
  if (!record) return;
  const expiresAt = new Date(Date.now() + deps.routes().config.externalTokens.refreshAbsoluteTtl * 1000);
  await orUnavailable(records.upsert({ model: "Client", id: clientId, payload: record.payload, expiresAt }));
}
