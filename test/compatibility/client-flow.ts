import { createHash, randomBytes } from "node:crypto";
import { httpBrowser } from "../support/http-browser.ts";
import { throughEnvoy } from "../support/through-envoy.ts";
import type { Client } from "./catalog.ts";
import { type Catalog, clientRoute } from "./start-catalog.ts";
import type { Walker } from "./upstream-flow.ts";

type Json = Record<string, unknown>;
const initialize = (protocolVersion: string) =>
  JSON.stringify({
    jsonrpc: "2.0",
    id: 0,
    method: "initialize",
    params: { protocolVersion, capabilities: {}, clientInfo: { name: "compatibility-test", version: "1" } },
  });

/**
 * Everything that a client does at its first use, with its own requests: a call without a token, discovery, registration, authorization
 * in the user's browser, code and call, refresh and call.
 * @throws Error that names the failed step
 */
export async function walkClient(catalog: Catalog, walker: Walker, name: string): Promise<void> {
  const client = catalog.clients.get(name);
  if (!client) throw new Error(`no client ${name}`);
  const { refusal } = client;
  if (!refusal) return walk(catalog, walker, name, client);
  const said = await walk(catalog, walker, name, client).then(
    () => "nothing",
    (error: Error) => error.message,
  );
  if (!said.includes(refusal.says)) throw new Error(`expected "${refusal.says}", but was told ${said}`);
}

async function walk(catalog: Catalog, walker: Walker, name: string, client: Client): Promise<void> {
  const problem = catalog.problems.get(`client-${name}`);
  if (problem) throw new Error(problem);
  const resource = `${clientRoute(name)}${client.routePath ?? ""}${client.path ?? ""}`;
  const values = { resource, origin: new URL(resource).origin };
  const challenged = await call(catalog, client, resource);
  if (challenged.status !== 401) throw new Error(`the first call: ${challenged.status} ${challenged.body}`);
  const server = await discover(catalog, client, resource, challenged.header("www-authenticate") ?? "");

  const known = await register(catalog, client, String(server.registration_endpoint));
  const redirectUri = client.redirectUri ?? redirectUris(client)[0] ?? "";
  const verifier = randomBytes(48).toString("base64url");
  const authorize = new URL(String(server.authorization_endpoint));
  const asked: Record<string, string> = {
    response_type: "code",
    client_id: known.id,
    redirect_uri: redirectUri,
    code_challenge: createHash("sha256").update(verifier).digest("base64url"),
    code_challenge_method: "S256",
    ...filled(client.authorize ?? { state: "some-state", resource: "$resource" }, values),
  };
  for (const [parameter, value] of Object.entries(asked)) authorize.searchParams.set(parameter, value);
  const browser = httpBrowser({
    fetch: catalog.fetch,
    jar: walker.browser.jar,
    stopAt: (url) => url.href.startsWith(redirectUri),
  });
  const opened = await browser.open(authorize);
  // A client that sends no resource: the page asks the user, who knows the URL that they entered in the client.
  const asks = opened.html.includes('name="server"');
  if (asks !== (client.personSaysServer ?? false))
    throw new Error(`the person is ${asks ? "" : "not "}asked for the server`);
  const begun = asks ? await browser.submit(opened, { server: resource }) : opened;
  const page = await browser.agree(begun, catalog.stack.signIn("alice"));
  const code = page.url.searchParams.get("code");
  if (!code) throw new Error(`not authorized: ${page.url.href} ${page.status} ${plain(page.html)}`);
  if ((page.url.searchParams.get("state") ?? undefined) !== asked.state)
    throw new Error("another state came back");

  const token = async (parameters: Record<string, string>) => {
    const method = known.method;
    const form = new URLSearchParams(parameters);
    const headers: Record<string, string> = { "content-type": "application/x-www-form-urlencoded" };
    if (method === "client_secret_basic") {
      const pair = [known.id, known.secret ?? ""].map(encodeURIComponent).join(":");
      headers.authorization = `Basic ${Buffer.from(pair).toString("base64")}`;
      if (client.token?.repeatsClientId) form.set("client_id", known.id);
    } else form.set("client_id", known.id);
    if (method === "client_secret_post") form.set("client_secret", known.secret ?? "");
    const response = await catalog.fetch(String(server.token_endpoint), {
      method: "POST",
      headers: { ...headers, ...client.token?.headers },
      body: form.toString(),
    });
    const body = (await response.json()) as Json;
    if (!response.ok) throw new Error(`token endpoint: ${response.status} ${JSON.stringify(body)}`);
    return body;
  };
  const first = await token({
    grant_type: "authorization_code",
    code,
    redirect_uri: redirectUri,
    code_verifier: verifier,
    ...filled(client.token?.parameters ?? { resource: "$resource" }, values),
  });
  await served(catalog, client, resource, first, "the call with the first token");
  if (client.refresh === false) return;
  if (typeof first.refresh_token !== "string") throw new Error("no refresh token");
  const second = await token({
    grant_type: "refresh_token",
    refresh_token: first.refresh_token,
    ...filled(client.refresh ?? { resource: "$resource" }, values),
  });
  await served(catalog, client, resource, second, "the call after a refresh");
}

/** From the challenge, or from the URLs that the client tries, to the metadata of our authorization server. */
async function discover(
  catalog: Catalog,
  client: Client,
  resource: string,
  challenge: string,
): Promise<Json> {
  const { origin, pathname } = new URL(resource);
  const path = pathname === "/" ? "" : pathname;
  const named = /resource_metadata="([^"]+)"/.exec(challenge)?.[1];
  const wellKnown = "/.well-known/oauth-protected-resource";
  const documentUrls = {
    challenge: named,
    "resource-path": `${origin}${wellKnown}${path}`,
    "resource-root": `${origin}${wellKnown}`,
    "server-root": undefined,
  };
  const headers = { accept: "application/json", ...client.discoveryHeaders };
  const get = async (url: string) => {
    const response = await catalog.fetch(url, { headers });
    return response.ok ? ((await response.json()) as Json) : void (await response.body?.cancel());
  };
  let issuer: string | undefined;
  for (const source of client.discovers ?? (["challenge"] as const)) {
    if (source === "server-root") {
      // Clients of the 2025-03-26 revision: the MCP server is its own authorization server.
      issuer = origin;
      break;
    }
    const url = documentUrls[source];
    const found = url === undefined ? undefined : await get(url);
    if (!found) continue;
    if (client.comparesResource && found.resource !== resource)
      throw new Error(`the metadata is of ${String(found.resource)}, not of ${resource}`);
    issuer = (found.authorization_servers as string[])[0];
    break;
  }
  if (issuer === undefined) throw new Error("no protected resource metadata");
  for (const kind of client.metadata ?? (["oauth-authorization-server"] as const)) {
    const found = await get(`${issuer}/.well-known/${kind}`);
    if (found) return found;
  }
  throw new Error(`no metadata of ${issuer}`);
}

async function register(
  catalog: Catalog,
  client: Client,
  endpoint: string,
): Promise<{ id: string; secret?: string; method: string }> {
  const { method } = client.token ?? {};
  if (client.document) return { id: client.document.url, method: method ?? "none" };
  const response = await catalog.fetch(endpoint, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(client.registers),
  });
  const body = (await response.json()) as Json;
  if (response.status !== 201) throw new Error(`not registered: ${response.status} ${JSON.stringify(body)}`);
  const secret = typeof body.client_secret === "string" ? body.client_secret : undefined;
  return { id: String(body.client_id), secret, method: method ?? String(body.token_endpoint_auth_method) };
}

function redirectUris({ registers, document }: Client): string[] {
  return (document?.body ?? registers)?.redirect_uris as string[];
}

async function served(
  catalog: Catalog,
  client: Client,
  resource: string,
  token: Json,
  what: string,
): Promise<void> {
  if (String(token.token_type).toLowerCase() !== "bearer") throw new Error(`token_type ${token.token_type}`);
  const answer = await call(catalog, client, resource, String(token.access_token));
  if (answer.status !== 200) throw new Error(`${what}: ${answer.status} ${answer.body.slice(0, 500)}`);
}

function call(catalog: Catalog, client: Client, url: string, token?: string) {
  const version = client.protocolVersion ?? "2025-11-25";
  return throughEnvoy(catalog.stack, {
    url,
    method: "POST",
    headers: {
      "content-type": "application/json",
      accept: "application/json, text/event-stream",
      ...client.headers,
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
    },
    body: initialize(version),
  });
}

function filled(parameters: Readonly<Record<string, string>>, values: Record<string, string>) {
  return Object.fromEntries(
    Object.entries(parameters).map(([name, value]): [string, string] => [
      name,
      value.replaceAll(/\$(\w+)/g, (whole, one: string) => values[one] ?? whole),
    ]),
  ) as Record<string, string>;
}

const plain = (html: string) => html.replaceAll(/<style.*?<\/style>|<[^>]+>|\s+/gs, " ").slice(0, 1000);
