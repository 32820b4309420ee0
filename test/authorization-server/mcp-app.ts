import { createHash, randomBytes } from "node:crypto";
import { expect } from "vitest";
import type { HttpBrowser, Page, SignInFor } from "../support/http-browser.ts";
import type { AuthorizationServerStack } from "./start-authorization-server.ts";

export interface Tokens {
  readonly access_token: string;
  readonly refresh_token: string;
  readonly expires_in: number;
  readonly scope: string;
  readonly token_type: string;
}

export const people = {
  alice: { login: "alice", password: "wonderland" },
  bob: { login: "bob", password: "builder" },
} as const;

/** Signs in at the provider as `person`, until the browser is back. */
export async function throughCompany(
  stack: AuthorizationServerStack,
  browser: HttpBrowser,
  start: Page,
  person: keyof typeof people,
): Promise<Page> {
  let page = start;
  while (page.url.origin === stack.company.issuer) {
    const signsIn = page.html.includes('name="password"');
    page = await browser.submit(page, signsIn ? people[person] : {}, signsIn ? undefined : "decision=allow");
  }
  return page;
}

/** A scripted MCP client: registers, authorizes in a browser, exchanges and refreshes. */
export interface McpApp {
  readonly clientId: string;
  readonly clientSecret?: string;
  readonly redirectUri: string;
  /** Parameters of an authorization request, to be modified. */
  request(changes?: Record<string, string | undefined>): { url: URL; verifier: string; state: string };
  /** Runs the whole authorization flow in this browser; returns its last page. */
  authorize(
    browser: HttpBrowser,
    person: keyof typeof people,
    changes?: Record<string, string | undefined>,
  ): Promise<{ page: Page; verifier: string; params: URLSearchParams }>;
  exchange(code: string, verifier: string, changes?: Record<string, string | undefined>): Promise<Response>;
  /** Authorization and exchange; fails the test if either does not work. */
  tokens(
    browser: HttpBrowser,
    person: keyof typeof people,
    changes?: Record<string, string | undefined>,
  ): Promise<Tokens>;
  refresh(refreshToken: string, changes?: Record<string, string | undefined>): Promise<Response>;
  post(
    path: string,
    form: Record<string, string | undefined>,
    headers?: Record<string, string>,
  ): Promise<Response>;
}

const loopbackUri = "http://127.0.0.1:7777/client-callback";

/** Metadata of a web client: consent to it is remembered. */
export const onTheWeb = { redirect_uris: ["https://app.test/client-callback"] } as const;

/** Registers a client (RFC 7591). `metadata` overrides its defaults; it uses its first redirect URI. */
export async function registeredApp(
  stack: AuthorizationServerStack,
  metadata: Record<string, unknown> & { redirect_uris?: readonly string[] } = {},
): Promise<McpApp> {
  const response = await stack.fetch("https://auth.test/oauth/register", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      client_name: "Test app",
      redirect_uris: [loopbackUri],
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
      token_endpoint_auth_method: "none",
      ...metadata,
    }),
  });
  expect(response.status, await response.clone().text()).toBe(201);
  const client = (await response.json()) as { client_id: string; client_secret?: string };
  return appOf(stack, client.client_id, client.client_secret, metadata.redirect_uris?.[0]);
}

export function appOf(
  stack: AuthorizationServerStack,
  clientId: string,
  clientSecret?: string,
  redirectUri = loopbackUri,
): McpApp {
  const signIn =
    (person: keyof typeof people): SignInFor =>
    (origin) =>
      origin === stack.company.issuer ? people[person] : undefined;

  async function post(
    path: string,
    form: Record<string, string | undefined>,
    headers: Record<string, string> = {},
  ): Promise<Response> {
    const entries = Object.entries(form).filter((entry): entry is [string, string] => entry[1] !== undefined);
    return stack.fetch(`https://auth.test${path}`, {
      method: "POST",
      headers: { "content-type": "application/x-www-form-urlencoded", ...headers },
      body: new URLSearchParams(entries).toString(),
    });
  }

  const app: McpApp = {
    clientId,
    clientSecret,
    redirectUri,
    request(changes = {}) {
      const verifier = randomBytes(32).toString("base64url");
      const state = randomBytes(8).toString("hex");
      const params = {
        client_id: clientId,
        response_type: "code",
        redirect_uri: redirectUri,
        code_challenge: createHash("sha256").update(verifier).digest("base64url"),
        code_challenge_method: "S256",
        state,
        resource: "https://one.test",
        ...changes,
      };
      const url = new URL("https://auth.test/oauth/authorize");
      for (const [name, value] of Object.entries(params))
        if (value !== undefined) url.searchParams.set(name, value);
      return { url, verifier, state };
    },
    async authorize(browser, person, changes) {
      const { url, verifier } = app.request(changes);
      const page = await browser.agree(await browser.open(url), signIn(person));
      return { page, verifier, params: page.url.searchParams };
    },
    exchange: (code, verifier, changes = {}) =>
      post("/oauth/token", {
        grant_type: "authorization_code",
        code,
        code_verifier: verifier,
        redirect_uri: redirectUri,
        client_id: clientId,
        client_secret: clientSecret,
        ...changes,
      }),
    async tokens(browser, person, changes) {
      const { page, verifier, params } = await app.authorize(browser, person, changes);
      const code = params.get("code");
      expect(code, `${page.url.href} ${page.html.slice(0, 2000)}`).toBeTruthy();
      const response = await app.exchange(code ?? "", verifier);
      expect(response.status, await response.clone().text()).toBe(200);
      return (await response.json()) as Tokens;
    },
    refresh: (refreshToken, changes = {}) =>
      post("/oauth/token", {
        grant_type: "refresh_token",
        refresh_token: refreshToken,
        client_id: clientId,
        client_secret: clientSecret,
        ...changes,
      }),
    post,
  };
  return app;
}
