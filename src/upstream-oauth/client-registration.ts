import {
  type AuthorizationServer,
  allowInsecureRequests,
  type Client,
  customFetch,
  dynamicClientRegistrationRequest,
  processDynamicClientRegistrationResponse,
} from "oauth4webapi";
import type { ClientAuthMethod } from "../model/route.ts";
import type { ClientRegistration } from "../store/client-registrations.ts";
import { chooseAuthMethod } from "./client-authentication.ts";
import { byKey, type ClientUrls } from "./client-metadata.ts";
import { UpstreamOAuthError } from "./errors.ts";
import { errorWord } from "./failures.ts";
import { readJsonObject, textOf, timeOf } from "./json.ts";
import { oauthErrorOf, withoutSecrets } from "./token-response.ts";

/** Servers may limit a client to the scopes of its registration (RFC 7591 section 2). */
export interface RegisteredScopes {
  /** Scopes to request now. */
  readonly asked: readonly string[];
  /** Scopes that a step-up may request later. */
  readonly supported: readonly string[];
}

/** One registration. */
interface RegistrationRequest {
  readonly fetch: typeof globalThis.fetch;
  readonly as: AuthorizationServer;
  readonly urls: Pick<ClientUrls, "redirectUri" | "jwksUri">;
  readonly clientName: string;
  readonly scopes: RegisteredScopes;
  /** Set by the operator; absent: chosen from the server's list. */
  readonly authMethod?: ClientAuthMethod;
  /** Whether a URL is on one of the gateway's hosts. */
  readonly isOurs: (url: URL) => boolean;
}

/** Registration data in `ClientRegistration.metadata`. */
export interface RegistrationNotes {
  /** Unix ms. */
  readonly registeredAt?: number;
  /** Space-separated scopes that were registered, or that the server did not accept in a registration. */
  readonly scope?: string;
  /** RFC 7592: management URL, its token, and the registered metadata. Only on the server's own origin. */
  readonly management?: {
    readonly uri: string;
    readonly token: string;
    readonly metadata: Readonly<Record<string, unknown>>;
  };
}

/** Most preferred first. */
const able = ["client_secret_basic", "client_secret_post", "none", "private_key_jwt"] as const;

/**
 * Registers a client at an authorization server (RFC 7591).
 *
 * @throws UpstreamOAuthError `registration_rejected`, `registration_unavailable`, `rate_limited`, `server_error`, `unreachable`.
 */
export async function registerClient(request: RegistrationRequest): Promise<ClientRegistration> {
  const { as, scopes } = request;
  const { redirectUri, jwksUri } = request.urls;
  const { host } = new URL(as.registration_endpoint ?? as.issuer);
  const method = request.authMethod ?? chooseAuthMethod(as, able);
  if (!method) {
    throw new UpstreamOAuthError(
      "registration_unavailable",
      `${host} registers only clients with authentication methods that dynamic registration cannot set up: register by hand and set upstream_oauth2.client_id`,
      { detail: String(as.token_endpoint_auth_methods_supported) },
    );
  }
  const metadata = {
    client_name: request.clientName,
    client_uri: new URL(redirectUri).origin,
    redirect_uris: [redirectUri],
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    ...(method === "private_key_jwt" ? byKey(jwksUri) : { token_endpoint_auth_method: method }),
    application_type: "web",
  };
  const ask = async (asked: Partial<Client>) =>
    read(
      await dynamicClientRegistrationRequest(as, asked, {
        [customFetch]: request.fetch,
        [allowInsecureRequests]: true,
      }),
      { ...request, asked, method, host },
    );
  const { asked, supported } = scopes;
  // Some servers grant the registered scopes if a request names none.
  if (asked.length === 0) return ask(metadata).catch(withHost(host));
  const wide = [...new Set([...asked, ...supported])].join(" ");
  const narrow = asked.join(" ");
  const withScope = (scope: string) => ask({ ...metadata, scope });
  return withScope(wide)
    .catch(
      unlessScopes(() =>
        narrow === wide ? withoutScope() : withScope(narrow).catch(unlessScopes(withoutScope)),
      ),
    )
    .catch(withHost(host));

  /** Records the attempted scopes: another registration would not get more. */
  async function withoutScope(): Promise<ClientRegistration> {
    const made = await ask(metadata);
    return { ...made, metadata: { ...made.metadata, scope: wide } };
  }
}

/**
 * Rotates a registration's secret (RFC 7592: an update, section 2.2, else a read, section 2.1), so that the client stays valid.
 *
 * @returns the current registration; unchanged if the server returns no new secret
 * @throws UpstreamOAuthError as `registerClient`
 */
export async function rotateClientSecret(
  found: ClientRegistration,
  request: Pick<RegistrationRequest, "fetch" | "urls" | "isOurs">,
): Promise<ClientRegistration> {
  const { management } = notesOf(found);
  if (!management) return found;
  const { uri, token, metadata } = management;
  const { host } = new URL(uri);
  const headers = { authorization: `Bearer ${token}`, accept: "application/json" };
  const body = JSON.stringify({ ...metadata, client_id: found.clientId });
  const put = { method: "PUT", headers: { ...headers, "content-type": "application/json" }, body };
  try {
    let response = await request.fetch(uri, { ...put, redirect: "manual" });
    // Some servers allow reading a registration, but not updating it.
    if ([400, 403, 404, 405, 501].includes(response.status))
      response = await request.fetch(uri, { headers, redirect: "manual" });
    const as = { issuer: found.issuer, registration_endpoint: uri };
    const method = found.authMethod as ClientAuthMethod;
    const now = await read(response, { ...request, as, asked: metadata, method, host, token });
    if (now.clientId !== found.clientId)
      throw new UpstreamOAuthError(
        "registration_rejected",
        `the registration at ${host} is for a different client`,
      );
    const notes: RegistrationNotes = {
      ...notesOf(found),
      management: { ...management, ...notesOf(now).management, metadata },
    };
    // A response without a secret keeps the old one.
    if (now.clientSecret === undefined) return { ...found, metadata: { ...notes } };
    return { ...now, authMethod: found.authMethod, metadata: { ...notes, registeredAt: Date.now() } };
  } catch (error) {
    throw UpstreamOAuthError.from(error, `renewing the registration at ${host} failed`);
  }
}

/** Deletes a registration at its server (RFC 7592 section 2.3), if the server offers that. Never throws: it is one that nobody uses. */
export async function deleteRegistration(
  found: ClientRegistration,
  fetch: typeof globalThis.fetch,
): Promise<void> {
  const { management } = notesOf(found);
  if (!management) return;
  const headers = { authorization: `Bearer ${management.token}` };
  try {
    const response = await fetch(management.uri, { method: "DELETE", headers, redirect: "manual" });
    await response.body?.cancel();
  } catch {
    // The server removes unused clients itself, or keeps them.
  }
}

/** What `registerClient` recorded about a registration. */
export function notesOf({ metadata }: Pick<ClientRegistration, "metadata">): RegistrationNotes {
  return metadata;
}

/** Some servers reject all or some scopes in a registration: then `next` is tried. */
function unlessScopes(next: () => Promise<ClientRegistration>) {
  return (error: unknown): Promise<ClientRegistration> => {
    const { error: word } = UpstreamOAuthError.from(error, "");
    if (word === "invalid_client_metadata" || word === "invalid_scope") return next();
    throw error;
  };
}

function withHost(host: string) {
  return (error: unknown): never => {
    throw UpstreamOAuthError.from(error, `registration at ${host} failed`);
  };
}

/** Reads the registration from the server's response (RFC 7591 section 3.2.1). */
async function read(
  response: Response,
  request: Pick<RegistrationRequest, "as" | "urls" | "isOurs"> & {
    readonly asked: Readonly<Record<string, unknown>>;
    readonly method: ClientAuthMethod;
    readonly host: string;
    /** Sent with the request. */
    readonly token?: string;
  },
): Promise<ClientRegistration> {
  const { as, asked, method, host, token = "" } = request;
  const answer = await accepted(response, host, token);
  const secretText = answer.client_secret;
  const plain = {
    client_id: plainText(answer.client_id),
    client_secret: plainText(secretText),
    client_secret_expires_at: 0,
  };
  const client = await processDynamicClientRegistrationResponse(
    new Response(JSON.stringify(plain), { status: 201, headers: { "content-type": "application/json" } }),
  );
  checkRegistered({ client_id: client.client_id, redirect_uris: answer.redirect_uris }, request, host);
  const clientSecret = typeof client.client_secret === "string" ? client.client_secret : undefined;
  return {
    issuer: as.issuer,
    redirectUri: request.urls.redirectUri,
    clientId: client.client_id,
    clientSecret,
    secretExpiresAt: clientSecret === undefined ? undefined : secretEnd(answer, response),
    // Absent: as requested; an unrequested secret uses the default method (RFC 7591 section 2).
    authMethod:
      textOf(answer.token_endpoint_auth_method) ??
      (clientSecret !== undefined && method === "none" ? "client_secret_basic" : method),
    metadata: {
      registeredAt: Date.now(),
      ...(typeof asked.scope === "string" ? { scope: asked.scope } : {}),
      ...managementOf(answer, as, asked),
    },
  };
}

/** Ids and secrets are used verbatim; some servers send numbers. */
function plainText(value: unknown): string | undefined {
  if (typeof value === "string" && value !== "") return value;
  return typeof value === "number" && Number.isSafeInteger(value) ? String(value) : undefined;
}

/** When a secret expires by the local clock. If the server's clock is behind, its time could already be past. */
function secretEnd(answer: Readonly<Record<string, unknown>>, response: Response): Date | undefined {
  const end = timeOf(answer.client_secret_expires_at);
  if (end === undefined) return undefined;
  const now = Date.now();
  if (end > now) return new Date(end);
  const theirNow = timeOf(response.headers.get("date")) ?? timeOf(answer.client_id_issued_at);
  return new Date(theirNow !== undefined && end > theirNow ? now + end - theirNow : end);
}

/** Accepted only on the origin of the registration endpoint: the token controls the client. */
function managementOf(
  answer: Readonly<Record<string, unknown>>,
  as: AuthorizationServer,
  asked: Readonly<Record<string, unknown>>,
): Pick<RegistrationNotes, "management"> {
  const uri = textOf(answer.registration_client_uri);
  const token = textOf(answer.registration_access_token);
  if (uri === undefined || token === undefined || !/^[\x21-\x7e]+$/.test(token)) return {};
  if (URL.parse(uri)?.origin !== new URL(as.registration_endpoint ?? as.issuer).origin) return {};
  return { management: { uri, token, metadata: asked } };
}

/** The registration must have exactly the requested redirect URI (RFC 7591 section 3.2.1), and must not be another client of the gateway. */
function checkRegistered(
  client: { readonly client_id: string; readonly redirect_uris?: unknown },
  request: { readonly urls: Pick<ClientUrls, "redirectUri">; readonly isOurs: (url: URL) => boolean },
  host: string,
): void {
  const reject = (what: string) => {
    throw new UpstreamOAuthError("registration_rejected", `the registration at ${host} ${what}`);
  };
  const url = URL.parse(client.client_id);
  if (url && request.isOurs(url)) reject("returned the client id of another client of this gateway");
  const { redirect_uris: given } = client;
  if (given === undefined || given === null) return;
  const uris: unknown[] = Array.isArray(given) ? given : [given];
  if (uris.length !== 1 || uris[0] !== request.urls.redirectUri)
    reject("has redirect URIs other than the requested one");
}

/**
 * @param token sent with the request; "": none
 * @returns the members of a successful response
 */
async function accepted(response: Response, host: string, token: string): Promise<Record<string, unknown>> {
  const text = await response.text();
  const detail = withoutSecrets(text, [token]);
  const answer = readJsonObject(text.replace(/^\ufeff/, ""));
  const error = oauthErrorOf(answer);
  const { status } = response;
  if (status === 429) {
    throw new UpstreamOAuthError("rate_limited", `${host} limits the rate of registrations`, {
      detail,
      status,
      server: host,
    });
  }
  if (status >= 500) {
    throw new UpstreamOAuthError("server_error", `registration at ${host} failed (${status})`, {
      detail,
      status,
      server: host,
    });
  }
  if (!response.ok || error !== undefined) {
    throw new UpstreamOAuthError(
      "registration_rejected",
      `${host} rejected the registration (${[status, errorWord(error)].filter(Boolean).join(" ")}): register by hand and set upstream_oauth2.client_id`,
      { detail, error, status, server: host },
    );
  }
  // The caller reports a response that is not an object.
  return answer ?? {};
}

/** Whether the secret expires within a minute. */
export function isExpiring(found: ClientRegistration): boolean {
  return found.secretExpiresAt !== undefined && found.secretExpiresAt.getTime() < Date.now() + 60_000;
}

/** Whether the secret has expired. */
export function hasEnded({ secretExpiresAt }: ClientRegistration): boolean {
  return secretExpiresAt !== undefined && secretExpiresAt.getTime() <= Date.now();
}

/** Whether a secret that can be rotated expires soon: within a quarter of its lifetime, or a minute. */
export function isDue(found: ClientRegistration): boolean {
  const { registeredAt, management } = notesOf(found);
  if (found.secretExpiresAt === undefined || !management) return false;
  const end = found.secretExpiresAt.getTime();
  return end - Date.now() < Math.max(60_000, (end - (registeredAt ?? end)) / 4);
}

/** A registration to replace. */
export interface ReplacedClient {
  readonly clientId: string;
  /** Unix ms: a new registration may have the same client id. */
  readonly registeredAt?: number;
  /** Replaced for scopes that only one user's calls require. */
  readonly stepUp?: boolean;
}
