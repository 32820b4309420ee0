import type { RequestListener } from "node:http";
import type { JWK } from "oidc-provider";
import { listen } from "../../dev/demo/listen.ts";
import type { OidcServer } from "../../dev/demo/oidc-server.ts";
import { openidProvider } from "../../dev/demo/openid-provider.ts";
import { createAuthorizationServer } from "../../src/authorization-server/create-authorization-server.ts";
import { createPortal } from "../../src/compose.ts";
import { createConnectionsRouter } from "../../src/portal/connections.ts";
import { createConsentLinks } from "../../src/portal/consent-links.ts";
import { allowMember } from "../../src/portal/member-grants.ts";
import { createServersRouter } from "../../src/portal/servers-api.ts";
import { behindEnvoy } from "../support/behind-envoy.ts";
import { everyHostAt } from "../support/every-host-at.ts";
import { type HttpBrowser, httpBrowser } from "../support/http-browser.ts";
import { type Replica, type Stack, type StackOptions, startStack } from "../support/stack.ts";

type ConnectionState = "connected" | "not_needed" | "missing" | "unavailable" | "sign_in_needed";

/** Sign-in and authorization server behind a plain HTTP listener, with a real OpenID provider of the company. */
export interface AuthorizationServerStack extends Stack {
  readonly company: OidcServer;
  /** The authorization server of another replica. */
  otherServer(): Promise<
    Pick<Replica, "metrics"> & { readonly fetch: typeof globalThis.fetch; close(): Promise<void> }
  >;
  /** `USER ROUTE` that policy denies. */
  readonly denied: Set<string>;
  /** Every https host leads to the listener. */
  readonly fetch: typeof globalThis.fetch;
  /** Reported state of a user's connection to a route; default `not_needed`. */
  readonly connections: Map<string, ConnectionState>;
  /** `USER ROUTE` of connections that were verified with their upstream. */
  readonly verified: string[];
  /** What the stand-in for the upstream's consent page does: connects, or returns this error, with further parameters. */
  connectOutcome: "connects" | "nothing" | { error: string; beside?: Readonly<Record<string, string>> };
  /** Client ID Metadata Documents by URL, as the authorization server fetches them. */
  readonly documents: Map<string, () => Response>;
  /** Users whose connections were to be ended because the company rejected them. */
  readonly gone: readonly string[];
  /** Its handler, for another listener (TLS). */
  readonly handler: RequestListener;
  browser(): HttpBrowser;
  /** Moves a user's newest sign-in (or recheck) back by `seconds`; resolves when the components have been notified. */
  ageSignIn(userId: string, seconds: number): Promise<void>;
}

const companySecret = "a-long-secret-of-the-company";

/**
 * @param extra YAML added at the top level
 * @param options.companyKeys private keys that the company signs with
 * @param options.upstreams upstreams are really asked and connected, with the portal; default: stand-ins
 */
export async function startAuthorizationServer(
  extra = "",
  {
    companyKeys,
    upstreams = false,
    interruptible,
  }: { companyKeys?: readonly JWK[]; upstreams?: boolean } & Pick<StackOptions, "interruptible"> = {},
): Promise<AuthorizationServerStack> {
  const company = await openidProvider({
    keys: companyKeys,
    clients: [
      {
        client_id: "sidecar",
        client_secret: companySecret,
        // With one provider, and with several.
        redirect_uris: ["", "/company", "/partner"].map(
          (id) => `https://auth.test/.pomerium/sign_in/callback${id}`,
        ),
      },
    ],
  });
  const documents = new Map<string, () => Response>();
  const untrustedFetch: typeof globalThis.fetch = async (input) => {
    const document = documents.get(String(input instanceof Request ? input.url : input));
    if (!document) throw new TypeError("fetch failed");
    return document();
  };
  const stack = await startStack(routesFile(company.issuer, extra), {
    trustedFetch: globalThis.fetch,
    untrustedFetch,
    interruptible,
  });
  const { store, signIn, beforeClose } = stack;
  beforeClose(company.close);
  const gone: string[] = [];
  const connections = new Map<string, ConnectionState>();
  const connectionState = async (userId: string, { id }: { id: string }) => {
    const state = connections.get(`${userId} ${id}`) ?? "not_needed";
    if (state !== "sign_in_needed") return { state, missingScopes: [] };
    return { state: "unavailable", missingScopes: [], signInNeeded: true } as const;
  };
  const verified: string[] = [];
  const verify = async (userId: string, { id }: { id: string }) => {
    verified.push(`${userId} ${id}`);
  };
  const denied = new Set<string>();
  const mayReach = ({ userId }: { readonly userId: string }, { id }: { readonly id: string }) =>
    !denied.has(`${userId} ${id}`);

  /** The replica's authorization server, with the stand-ins. */
  function authorizationServerOf(replica: Replica) {
    const server = createAuthorizationServer({
      ...replica,
      fetch: untrustedFetch,
      mayReach,
      ...(upstreams
        ? { upstreamNotice: replica.upstreamOAuth.notice }
        : { upstreamTokens: { connectionState, verify } }),
    });
    replica.beforeClose(server.close);
    return server;
  }
  async function replica(): Promise<Replica> {
    const made = await stack.replica();
    made.signIn.onPersonRejected(async (userId) => gone.push(userId));
    return { ...made, authorizationServer: authorizationServerOf(made) };
  }
  signIn.onPersonRejected(async (userId) => gone.push(userId));
  const authorizationServer = authorizationServerOf(stack);

  const app = behindEnvoy();
  app.use(signIn.router.routes());
  const { describeClient } = authorizationServer;
  if (upstreams) {
    const { endpointPath } = stack.upstreamOAuth;
    app.use(createPortal({ ...stack, mayReach, describeClient, endpointPath }).routes());
  } else {
    const upstreamTokens = { connectionState, disconnect: async () => false, end: async () => undefined };
    const portal = { ...stack, mayReach, describeClient, upstreamTokens };
    app.use(createConnectionsRouter(portal).routes()).use(createServersRouter(portal).routes());
    // Without the portal's connect page, which the stand-in below replaces.
    const links = createConsentLinks({ ...portal, onAllowed: (allowed) => allowMember(stack, allowed) });
    app.use(links.router.routes());
  }
  app.use(async (ctx, next) => {
    if (ctx.path === "/whoami") {
      const person = await signIn.person(ctx);
      ctx.body = person ?? {};
      return;
    }
    if (ctx.path !== "/.pomerium/mcp/connect") return next();
    const person = await signIn.person(ctx);
    if (person?.parentSessionName === undefined || person.parentSessionName !== ctx.query.session) {
      return ctx.redirect(await signIn.begin(ctx, ctx.path + ctx.search));
    }
    const back = new URL(String(ctx.query.redirect_url));
    const outcome = made.connectOutcome;
    if (outcome === "connects") connections.set(`${person.userId} ${ctx.query.route}`, "connected");
    else if (outcome !== "nothing")
      for (const [name, value] of Object.entries({ connect_error: outcome.error, ...outcome.beside }))
        back.searchParams.set(name, value);
    ctx.redirect(back.href);
  });
  app.use(authorizationServer.middleware);
  const handler = app.callback();
  const listener = await listen(handler);

  const { fetch, close: closeFetch } = everyHostAt(listener.port);
  beforeClose(listener.close);
  beforeClose(closeFetch);
  const made: AuthorizationServerStack = {
    ...stack,
    replica,
    authorizationServer,
    company,
    denied,
    verified,
    fetch,
    connections,
    connectOutcome: "connects",
    documents,
    gone,
    handler,
    async otherServer() {
      const other = await replica();
      const itsApp = behindEnvoy().use(other.authorizationServer.middleware);
      const itsListener = await listen(itsApp.callback());
      const itsFetch = everyHostAt(itsListener.port);
      other.beforeClose(itsListener.close);
      other.beforeClose(itsFetch.close);
      return { fetch: itsFetch.fetch, metrics: other.metrics, close: other.close };
    },
    browser: () =>
      httpBrowser({
        fetch,
        stopAt: (url) => url.pathname === "/client-callback" || !/^https?:$/.test(url.protocol),
      }),
    async ageSignIn(userId, seconds) {
      const session = await store.signInSessions.find(userId);
      if (!session) throw new Error(`${userId} has not signed in`);
      const heard = new Promise<void>((resolve) => {
        const stop = store.notifications.subscribe((change) => {
          if (change.table !== "browser_session" || change.userId !== userId) return;
          stop();
          resolve();
        });
      });
      await store.signInSessions.put({ ...session, checkedAt: new Date(Date.now() - seconds * 1000) });
      await heard;
    },
  };
  return made;
}

function routesFile(issuer: string, extra: string): string {
  const route = (from: string, name: string) => `
  - from: ${from}
    to: http://upstream.test:8080/mcp
    id: ${name}
    name: ${name}
    description: Does things called ${name}
    mcp: {server: {upstream_oauth2: {scopes: [a, b, c, "a:b", "tools:read", "tools:write", "files:read"]}}}
    policy: [{allow: {and: [{accept: true}]}}]`;
  return `issuer: https://auth.test
sign_in:
  providers:
    - id: company
      name: Company
      issuer: ${issuer}
      client_id: sidecar
      client_secret: ${companySecret}
      scopes: [openid, email, profile, groups, offline_access]
${extra}
routes:${route("https://one.test", "one")}${route("https://many.test/a", "many-a")}${route("https://many.test/b", "many-b")}
`;
}
