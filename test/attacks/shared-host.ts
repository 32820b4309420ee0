import { type E2e, startE2e } from "../support/e2e.ts";
import { type HttpBrowser, httpBrowser, type Page } from "../support/http-browser.ts";
import { type ScriptedUpstream, scriptedUpstream } from "../upstream-oauth/scripted-upstream.ts";

/** Two MCP servers of different owners behind one host: an honest one and a malicious one. */
export interface SharedHost {
  readonly stack: E2e;
  readonly honest: ScriptedUpstream;
  readonly evil: ScriptedUpstream;
  /** Clients of the honest server with their redirect URIs; registration adds one. */
  readonly redirectUris: Map<string, string[]>;
  /** A browser without a session. */
  browser(stopAt?: (url: URL) => boolean): HttpBrowser;
  /** The person connects a route, signs in and agrees to every prompt. */
  connect(browser: HttpBrowser, user: "alice" | "bob", route: string): Promise<Page>;
  close(): Promise<void>;
}

export const sharedHost = "https://shared.test";
export const connected = `${sharedHost}/done`;

/**
 * Starts both servers behind a real Envoy. The honest authorization server consents at once, like a server that already knows the
 * person and the client, and does not send `iss` (no RFC 9207), like most servers.
 *
 * @param routes returns further routes, given the two servers
 */
export async function startSharedHost(
  routes: (honest: ScriptedUpstream, evil: ScriptedUpstream) => Record<string, unknown>[],
): Promise<SharedHost> {
  const [honest, evil] = await Promise.all([scriptedUpstream(), scriptedUpstream()]);
  const redirectUris = new Map<string, string[]>();
  for (const server of [honest, evil]) delete server.metadata.authorization_response_iss_parameter_supported;
  honest.on("/register", (seen) => {
    const body = JSON.parse(seen.body);
    const clientId = `client-${redirectUris.size}`;
    redirectUris.set(clientId, body.redirect_uris);
    honest.clients.add(clientId);
    return { status: 201, body: { client_id: clientId, client_secret: "s", client_secret_expires_at: 0 } };
  });
  honest.on("/authorize", ({ query }) => {
    const to = query.get("redirect_uri") ?? "";
    if (!redirectUris.get(query.get("client_id") ?? "")?.includes(to))
      return { status: 400, body: "unknown client or redirect URI" };
    const answer = honest.agree(`${honest.url}/authorize?${query}`);
    answer.delete("iss");
    return { status: 302, headers: { location: `${to}?${answer}` } };
  });
  const stack = await startE2e({
    names: ["shared.test"],
    config: (config) => ({ ...config, routes: [...config.routes, ...routes(honest, evil)] }),
  });
  const browser = (stopAt?: (url: URL) => boolean) =>
    httpBrowser({ fetch: stack.fetch, stopAt: (url) => url.href.startsWith(connected) || !!stopAt?.(url) });
  return {
    stack,
    honest,
    evil,
    redirectUris,
    browser,
    async connect(one, user, route) {
      const query = new URLSearchParams({ route, redirect_url: connected });
      return one.agree(await one.open(`${sharedHost}/.pomerium/mcp/connect?${query}`), stack.signIn(user));
    },
    async close() {
      await stack.close();
      await Promise.all([honest.close(), evil.close()]);
    },
  };
}
