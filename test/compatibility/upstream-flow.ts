import { type HttpBrowser, httpBrowser } from "../support/http-browser.ts";
import { oauthRequests } from "../support/oauth-requests.ts";
import { pingThroughEnvoy } from "../support/ping-through-envoy.ts";
import type { Vendor } from "./scripted-vendors.ts";
import { type Catalog, upstreamRoute } from "./start-catalog.ts";

/** A user's browser and MCP client, which connect one upstream after the other. */
export interface Walker {
  readonly browser: HttpBrowser;
  readonly clientId: string;
}
const redirectUri = "https://walker.test/callback";

export async function startWalker(catalog: Catalog): Promise<Walker> {
  const browser = httpBrowser({ fetch: catalog.fetch, stopAt: (url) => url.href.startsWith(redirectUri) });
  return { browser, clientId: await oauthRequests(catalog.stack).register([redirectUri]) };
}

/**
 * The whole life of one connection: discovery, registration and consent on first use; a call with the injected token; the token expires
 * and is refreshed; the upstream revokes everything, and the user consents again.
 * @throws Error that names the failed step
 */
export async function walkUpstream(catalog: Catalog, walker: Walker, name: string): Promise<void> {
  const vendor = catalog.vendors.vendors.get(name);
  if (!vendor) throw new Error(`no upstream ${name}`);
  const problem = catalog.problems.get(`upstream-${name}`);
  if (problem) throw new Error(problem);
  const { upstream } = vendor;
  const { refusal } = upstream;
  if (refusal) {
    const said = await connect(catalog, walker, name).then(
      () => "that it is connected",
      (error: Error) => error.message,
    );
    if (!said.includes(refusal.says)) throw new Error(`expected "${refusal.says}", but was told ${said}`);
    return;
  }
  let externalToken = await connect(catalog, walker, name);
  await served(catalog, vendor, name, externalToken, "the first call");

  revoke(vendor, { refreshTokens: false });
  const challenged = await ping(catalog, name, externalToken);
  if (challenged.status !== 401) throw new Error(`a token refused upstream: ${say(challenged)}`);
  if (upstream.token?.refreshes === false) externalToken = await connect(catalog, walker, name);
  await served(catalog, vendor, name, externalToken, "the call after the token had expired");
  const renewed = upstream.token?.refreshes === false ? "authorization_code" : "refresh_token";
  if (vendor.granted.at(-1) !== renewed)
    throw new Error(`renewed by ${vendor.granted.at(-1)} instead of ${renewed}`);

  // Without refresh tokens, that was all that can be revoked; another revocation would test a server that rejects what it has just issued.
  if (upstream.token?.refreshes === false) return noComplaints(vendor);
  revoke(vendor, { refreshTokens: true });
  const refused = await ping(catalog, name, externalToken);
  if (refused.status !== 401) throw new Error(`a refresh token revoked upstream: ${say(refused)}`);
  externalToken = await connect(catalog, walker, name);
  await served(catalog, vendor, name, externalToken, "the call after all had been revoked");
  if (vendor.granted.at(-1) !== "authorization_code") throw new Error("connected again without a consent");
  noComplaints(vendor);
}

function noComplaints({ complaints }: Vendor): void {
  if (complaints.length > 0) throw new Error(`the vendor says: ${complaints.join("; ")}`);
}

/** First use, or a repeated one: the gateway's consent and the upstream's in one flow. @returns the external token */
async function connect(catalog: Catalog, { browser, clientId }: Walker, name: string): Promise<string> {
  const { ask, redeem } = oauthRequests(catalog.stack);
  const asked = ask(clientId, redirectUri, { resource: endpoint(catalog, name) });
  const page = await browser.agree(await browser.open(asked.url), catalog.stack.signIn("alice"));
  const code = page.url.searchParams.get("code");
  if (!page.url.href.startsWith(redirectUri) || !code) {
    const { searchParams } = page.url;
    const said =
      searchParams.get("error_description") ?? page.html.replaceAll(/<style.*?<\/style>|<[^>]+>|\s+/gs, " ");
    throw new Error(
      `not connected: ${page.url.host}${page.url.pathname} ${page.status} ${said.slice(0, 1500)}`,
    );
  }
  const { access_token: token } = await redeem(asked, page.url);
  if (typeof token !== "string") throw new Error("the code was not redeemed");
  return token;
}

/** The URL that users configure in their client. */
const endpoint = (catalog: Catalog, name: string) =>
  `${upstreamRoute(name)}${catalog.upstreams.get(name)?.path ?? ""}`;

const ping = (catalog: Catalog, name: string, token: string) =>
  pingThroughEnvoy(catalog.stack, endpoint(catalog, name), token);

async function served(
  catalog: Catalog,
  vendor: Vendor,
  name: string,
  token: string,
  what: string,
): Promise<void> {
  const before = vendor.called.length;
  const answer = await ping(catalog, name, token);
  if (answer.status !== 200) throw new Error(`${what}: ${say(answer)}`);
  if (vendor.called.length !== before + 1) throw new Error(`${what} came elsewhere`);
}

function revoke(vendor: Vendor, { refreshTokens }: { refreshTokens: boolean }): void {
  vendor.accessTokens.clear();
  if (refreshTokens) vendor.refreshTokens.clear();
}

const say = ({ status, body }: { status: number; body: string }) => `${status} ${body.slice(0, 500)}`;
