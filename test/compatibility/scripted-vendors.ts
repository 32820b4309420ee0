import { createHash, randomUUID } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { type Answer, type Client, hostsOf, type Upstream } from "./catalog.ts";

/** One upstream that responds as described in its file. */
export interface Vendor {
  readonly upstream: Upstream;
  /** Tokens that the MCP server accepts. */
  readonly accessTokens: Set<string>;
  readonly refreshTokens: Set<string>;
  /** The token of each MCP request, in order. */
  readonly called: string[];
  /** Requested grant types, in order. */
  readonly granted: string[];
  readonly authorized: URLSearchParams[];
  /** Requests of the gateway that the vendor would have rejected or answered differently. */
  readonly complaints: string[];
  readonly registered: Record<string, unknown>[];
}
export interface ScriptedVendors {
  readonly port: number;
  readonly vendors: ReadonlyMap<string, Vendor>;
  /** PEM of key and certificate, once they exist. */
  secure(tls: { key: string; cert: string }): void;
  close(): Promise<void>;
}
interface Registered {
  readonly secret?: string;
  readonly redirectUris: readonly string[];
  readonly method: string;
}
type Json = Record<string, unknown>;

/**
 * All of the catalog's upstreams behind one TLS port, by host and path. Whatever a file omits follows the RFCs: registration
 * (7591), code and refresh with rotation (6749), S256 (7636), the redirect URI exactly as registered.
 *
 * @param clients whose Client ID Metadata Documents are also served
 * @param options.redirectUri of our client that is registered by hand at this upstream
 * @param options.fetch reaches our Client ID Metadata Documents
 */
export async function scriptedVendors(
  upstreams: ReadonlyMap<string, Upstream>,
  clients: ReadonlyMap<string, Client>,
  options: { redirectUri(name: string): string; fetch(url: string): Promise<Response> },
): Promise<ScriptedVendors> {
  const vendors = new Map<string, Vendor>();
  const handlers = new Map<string, (request: Asked) => Promise<Answer>>();
  const elsewhere = new Map<string, Answer>();
  for (const [name, upstream] of upstreams) {
    const vendor: Vendor = {
      upstream,
      accessTokens: new Set(),
      refreshTokens: new Set(),
      called: [],
      granted: [],
      authorized: [],
      complaints: [],
      registered: [],
    };
    vendors.set(name, vendor);
    for (const [url, handler] of scripts(vendor, options.redirectUri(name), options.fetch)) {
      if (handlers.has(url)) throw new Error(`two upstreams answer at ${url}`);
      handlers.set(url, handler);
    }
    for (const host of hostsOf(upstream)) if (upstream.elsewhere) elsewhere.set(host, upstream.elsewhere);
  }

  for (const { document } of clients.values())
    if (document) handlers.set(document.url, async () => ({ body: document.body }));

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", `https://${request.headers.host}`);
    const body = await text(request);
    const asked = { method: request.method ?? "", url, headers: request.headers, body };
    const handler = handlers.get(url.origin + url.pathname);
    const given = (await handler?.(asked)) ??
      elsewhere.get(url.hostname) ?? { status: 404, body: "not found" };
    const raw = typeof given.body === "string";
    const type = raw ? {} : { "content-type": "application/json" };
    response.writeHead(given.status ?? 200, { ...type, ...given.headers });
    response.end(raw ? given.body : JSON.stringify(given.body ?? {}));
  }
  const server = createServer((request, response) => {
    answer(request, response).catch((error) => response.writeHead(500).end(String(error)));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    vendors,
    secure: (tls) => server.setSecureContext(tls),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

interface Asked {
  readonly method: string;
  readonly url: URL;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

/** The responses of one upstream, by URL. */
function scripts(
  vendor: Vendor,
  redirectUriByHand: string,
  fetch: (url: string) => Promise<Response>,
): Map<string, (asked: Asked) => Promise<Answer>> {
  const { upstream, complaints } = vendor;
  const { documents = {}, token = {}, registration = {}, authorization = {} } = upstream;
  const handlers = new Map<string, (asked: Asked) => Promise<Answer>>();
  const metadata = Object.values(documents).find((one): one is Json => "token_endpoint" in one) ?? {};
  const endpoints = configured(upstream.settings, "endpoint");
  const registered = new Map<string, Registered>();
  const codes = new Map<string, URLSearchParams>();
  const byHand = configured(upstream.settings);
  if (typeof byHand.client_id === "string") {
    const secret = typeof byHand.client_secret === "string" ? byHand.client_secret : undefined;
    registered.set(byHand.client_id, { secret, redirectUris: [redirectUriByHand], method: "any" });
  }

  const { origin, pathname } = new URL(upstream.to + (upstream.path ?? ""));
  handlers.set(origin + pathname, async ({ headers, body }) => {
    const given = headers.authorization?.replace(/^Bearer /, "");
    const isServed = given === undefined ? upstream.anonymous : vendor.accessTokens.has(given);
    if (!isServed) return upstream.unauthorized ?? { status: 401, headers: { "www-authenticate": "Bearer" } };
    if (given !== undefined) vendor.called.push(given);
    return { body: { jsonrpc: "2.0", id: JSON.parse(body).id, result: {} } };
  });
  for (const [url, document] of Object.entries(documents)) {
    const given: Answer = "answer" in document ? (document.answer as Answer) : { body: document };
    handlers.set(url, async () => given);
  }
  const at = (member: string, configuredAs: string) => metadata[member] ?? endpoints[configuredAs];

  const register = metadata.registration_endpoint;
  if (typeof register === "string")
    handlers.set(register, async ({ body }) => {
      const asked = JSON.parse(body) as Json;
      vendor.registered.push(asked);
      if (registration.refuses) return registration.refuses;
      for (const [name, value] of Object.entries(registration.wants ?? {}))
        if (asked[name] !== value) complaints.push(`registration without ${name}=${String(value)}`);
      const id = `client-${randomUUID()}`;
      const method = String(asked.token_endpoint_auth_method ?? "client_secret_basic");
      const secret = method === "none" ? undefined : `secret-${randomUUID()}`;
      const values = { client_id: id, client_secret: secret ?? "" };
      const answered: Json = {
        ...asked,
        client_id: id,
        ...(secret && { client_secret: secret, client_secret_expires_at: 0 }),
        ...(filled(registration.body ?? {}, values) as Json),
      };
      for (const [name, value] of Object.entries(registration.body ?? {}))
        if (value === undefined) delete answered[name];
      const secretGiven = typeof answered.client_secret === "string" ? answered.client_secret : undefined;
      registered.set(id, {
        secret: secretGiven,
        redirectUris: asked.redirect_uris as string[],
        method: String(answered.token_endpoint_auth_method ?? "client_secret_basic"),
      });
      return { status: registration.status ?? 201, body: answered };
    });

  /** Registered manually or dynamically, or with a document that can be fetched. */
  async function clientOf(id: string): Promise<Registered | undefined> {
    const known = registered.get(id);
    if (known || metadata.client_id_metadata_document_supported !== true || !id.startsWith("https://"))
      return known;
    const document = (await (await fetch(id)).json()) as Json;
    if (document.client_id !== id) return undefined;
    const made = {
      redirectUris: document.redirect_uris as string[],
      method: String(document.token_endpoint_auth_method),
    };
    registered.set(id, made);
    return made;
  }

  const authorize = at("authorization_endpoint", "auth_url");
  if (typeof authorize === "string") {
    const given = new URL(authorize);
    handlers.set(given.origin + given.pathname, async ({ url }) => {
      const asked = url.searchParams;
      vendor.authorized.push(asked);
      const refuse = (what: string): Answer => {
        complaints.push(`authorization ${what}`);
        return { status: 400, headers: { "content-type": "text/html" }, body: `<h1>${what}</h1>` };
      };
      const client = await clientOf(asked.get("client_id") ?? "");
      const redirectUri = asked.get("redirect_uri") ?? "";
      if (!client?.redirectUris.includes(redirectUri)) return refuse("of an unknown client or redirect URI");
      if (asked.get("response_type") !== "code") return refuse("for another response type");
      if (asked.get("code_challenge_method") !== "S256") return refuse("without S256");
      for (const [name, value] of Object.entries({
        ...Object.fromEntries(given.searchParams),
        ...authorization.wants,
      }))
        if (value === "*" ? !asked.get(name) : inOrder(name, asked.get(name)) !== inOrder(name, value))
          return refuse(`without ${name}=${value}`);
      for (const name of authorization.refuses ?? []) if (asked.has(name)) return refuse(`with ${name}`);
      if (authorization.shows) return authorization.shows;
      const code = randomUUID();
      codes.set(code, asked);
      const back = new URL(redirectUri);
      const adds =
        metadata.authorization_response_iss_parameter_supported === true ? { iss: metadata.issuer } : {};
      for (const [name, value] of Object.entries({
        ...(authorization.fails ?? { code }),
        state: asked.get("state"),
        ...adds,
        ...authorization.adds,
      }))
        back.searchParams.set(name, String(value));
      return { status: 302, headers: { location: back.href } };
    });
  }

  const tokenEndpoint = at("token_endpoint", "token_url");
  if (typeof tokenEndpoint === "string")
    handlers.set(tokenEndpoint, async (asked) => {
      const form = new URLSearchParams(asked.body);
      const refuse = (error: string, what: string): Answer => {
        complaints.push(`token request ${what}`);
        return { status: error === "invalid_client" ? 401 : 400, body: { error, error_description: what } };
      };
      const basic = asked.headers.authorization?.match(/^Basic (.*)$/)?.[1];
      const [basicId = "", basicSecret = ""] = basic
        ? Buffer.from(basic, "base64").toString().split(":").map(formDecoded)
        : [];
      const id = basic ? basicId : (form.get("client_id") ?? "");
      const secret = basic ? basicSecret : form.get("client_secret");
      const used = basic ? "client_secret_basic" : secret === null ? "none" : "client_secret_post";
      const client = await clientOf(id);
      if (!client) return refuse("invalid_client", `of the unknown client ${id}`);
      const listed = metadata.token_endpoint_auth_methods_supported;
      const methods = token.methods ?? (Array.isArray(listed) ? listed : ["client_secret_basic", "none"]);
      // Not recorded: the next method may be the right one.
      if (!methods.includes(used)) return { status: 401, body: { error: "invalid_client" } };
      if (client.secret !== undefined && client.method !== "none" && secret !== client.secret)
        return refuse("invalid_client", "with a wrong secret");
      // An invalid code tests whether the client is still known.
      if (form.get("code") === "0") return { status: 400, body: { error: "invalid_grant" } };
      for (const [name, value] of Object.entries(token.wants ?? {}))
        if (value === "*" ? !form.get(name) : form.get(name) !== value)
          return refuse("invalid_request", `without ${name}=${value}`);
      for (const name of token.refuses ?? [])
        if (form.has(name)) return refuse("invalid_request", `with ${name}`);
      const grant = form.get("grant_type") ?? "";
      vendor.granted.push(grant);
      let scope = "";
      if (grant === "authorization_code") {
        const begun = codes.get(form.get("code") ?? "");
        codes.delete(form.get("code") ?? "");
        const challenge = createHash("sha256")
          .update(form.get("code_verifier") ?? "")
          .digest("base64url");
        const fits =
          begun?.get("code_challenge") === challenge &&
          begun.get("redirect_uri") === form.get("redirect_uri") &&
          begun.get("client_id") === id;
        if (!fits) return refuse("invalid_grant", "with a code that does not fit");
        scope = begun.get("scope") ?? "";
      } else if (grant === "refresh_token") {
        if (token.refusesRefreshes) return token.refusesRefreshes;
        const given = form.get("refresh_token") ?? "";
        if (!vendor.refreshTokens.has(given))
          return token.refused ?? { status: 400, body: { error: "invalid_grant" } };
        if (token.rotates !== false) vendor.refreshTokens.delete(given);
      } else return refuse("unsupported_grant_type", `for ${grant}`);
      const values = {
        access_token: `access-${randomUUID()}`,
        refresh_token: `refresh-${randomUUID()}`,
        scope,
        given_refresh_token: form.get("refresh_token") ?? "",
      };
      vendor.accessTokens.add(values.access_token);
      const keeps = grant === "refresh_token" && token.rotates === false;
      const standard = {
        access_token: "$access_token",
        token_type: "Bearer",
        expires_in: 3600,
        ...(token.refreshes !== false && !keeps && { refresh_token: "$refresh_token" }),
      };
      const first = token.first ?? standard;
      const template =
        grant === "refresh_token" ? (token.refreshed ?? (keeps ? withoutRefresh(first) : first)) : first;
      if (JSON.stringify(template).includes("$refresh_token")) vendor.refreshTokens.add(values.refresh_token);
      return { status: token.status ?? 200, body: filled(template, values) };
    });
  return handlers;
}

/** `upstream_oauth2` of a route, or a part of it. */
function configured(settings: Upstream["settings"], part?: string): Json {
  const all = (settings?.upstream_oauth2 ?? {}) as Json;
  return part === undefined ? all : ((all[part] ?? {}) as Json);
}

function withoutRefresh({ refresh_token: _, ...rest }: Json): Json {
  return rest;
}

/** The order of scopes has no meaning (RFC 6749 section 3.3). */
function inOrder(name: string, value: string | null): string | null | undefined {
  return name === "scope" ? value?.split(" ").sort().join(" ") : value;
}

function formDecoded(value: string): string {
  return decodeURIComponent(value.replaceAll("+", " "));
}

/** Every `$name` of a body replaced. */
function filled(body: unknown, values: Readonly<Record<string, string>>): unknown {
  const text = JSON.stringify(body).replaceAll(/\$(\w+)/g, (whole, name: string) => values[name] ?? whole);
  return JSON.parse(text);
}
