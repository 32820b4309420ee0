import type { Route } from "../../src/model/route.ts";
import { createUpstreamOAuth } from "../../src/upstream-oauth/create-upstream-oauth.ts";
import type { UpstreamOAuthDeps } from "../../src/upstream-oauth/upstream-oauth.ts";
import { createUpstreamTokens } from "../../src/upstream-tokens/create-upstream-tokens.ts";
import { type Stack, type StackOptions, startStack } from "../support/stack.ts";

/** The gateway as OAuth client of upstreams. */
export interface OAuthClientStack extends Stack {
  route(id?: string): Route;
  /** @param settings replace those that it was started with */
  reconfigure(routesYaml: string, settings?: string): Promise<void>;
  /** A whole authorization flow of `userId`; `agree` plays the server's part. */
  connect(agree: (location: string) => URLSearchParams, userId?: string, routeId?: string): Promise<void>;
}

export const alice = "company/alice";
export const host = "mcp.test";

/** `settings` is YAML of the top level, `providers` of `sign_in.providers`; loopback is allowed unless the settings differ. */
export async function startOAuthClient(
  routesYaml: string,
  options: { settings?: string; providers?: string } & Pick<StackOptions, "resolveHost" | "interruptible"> &
    Pick<UpstreamOAuthDeps, "refreshSignIn"> = {},
): Promise<OAuthClientStack> {
  const { providers = "[{issuer: https://id.test, client_id: c, id: company}]" } = options;
  const usual = options.settings ?? "upstream_oauth: {allowed_private_hosts: [127.0.0.1], timeout: 3s}";
  const routesFile = (yaml: string, settings = usual) =>
    `issuer: https://auth.test\nsign_in: {providers: ${providers}}\n${settings}\npolicy: {allow: {or: [{accept: true}]}}\nroutes:\n${yaml}\n`;
  const stack = await startStack(routesFile(routesYaml), {
    resolveHost: options.resolveHost,
    interruptible: options.interruptible,
  });
  let { upstreamOAuth, upstreamTokens } = stack;
  if (options.refreshSignIn) {
    upstreamOAuth = createUpstreamOAuth({ ...stack, refreshSignIn: options.refreshSignIn });
    upstreamTokens = createUpstreamTokens({ ...stack, upstreamOAuth });
    stack.beforeClose(upstreamOAuth.close);
    stack.beforeClose(() => upstreamTokens.close());
  }
  const route = (id = "files") => {
    const found = stack.routes().byId(id);
    if (!found) throw new Error(`no route ${id}`);
    return found;
  };
  return {
    ...stack,
    upstreamOAuth,
    upstreamTokens,
    route,
    reconfigure: (yaml, settings) => stack.reload(routesFile(yaml, settings)),
    async connect(agree, userId = alice, routeId = "files") {
      const returnTo = "https://mcp.test/done";
      const asked = { userId, route: route(routeId), returnTo };
      let begun = await upstreamOAuth.begin(asked);
      // The user continues from the page that shows the destination and the scopes.
      if (!begun.ok && begun.notice) begun = await upstreamOAuth.begin({ ...asked, shown: begun.notice });
      if (!begun.ok) throw new Error(begun.message);
      for (let next: { location: string; state: string } | undefined = begun; next; ) {
        const params = agree(next.location);
        const callback = new URL(next.location).searchParams.get("redirect_uri") ?? "";
        const browserState = next.state;
        const finished = await upstreamOAuth.finish({ params, callback, host, userId, browserState });
        if (!finished.ok) throw new Error(finished.message);
        next = finished.again;
      }
    },
  };
}
