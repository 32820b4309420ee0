import { STATUS_CODES } from "node:http";
import { type AuthorizationServer, processGenericTokenEndpointResponse } from "oauth4webapi";
import { isKnownError, UpstreamOAuthError } from "./errors.ts";
import { numberOf, objectOf, readJsonObject, textOf, textsOf, timeOf } from "./json.ts";
import { readableScopes } from "./www-authenticate.ts";

/** A checked token response. */
export interface TokenAnswer {
  readonly accessToken: string;
  /** `N_A`: not an access token (RFC 8693), for example an identity assertion. */
  readonly tokenType: "Bearer" | "DPoP" | "N_A";
  readonly expiresAt?: Date;
  readonly refreshToken?: string;
  readonly refreshExpiresAt?: Date;
  /** As granted; absent if the server does not say, which means as requested (RFC 6749 section 5.1). */
  readonly scopes?: readonly string[];
  readonly issuedTokenType?: string;
}

/** Longer than any header that servers accept. Every cached connection holds a token. */
const maxTokenLength = 16 * 1024;
/** More than any server grants; every check may search them. */
const maxScopes = 500;

/** A lifetime above a hundred years means no expiry. Seconds. */
const maxLifetime = 100 * 365 * 86_400;
/** Characters. */
const maxFormLength = 128 * 1024;
/** Other spellings of bearer: Apigee's, Slack's token kinds, and RFC 8693's token types. */
const bearers = new Set(["bearer", "bearertoken", "user", "bot", "accesstoken", "oauth2", "jwt"]);
/** Members that may wrap the whole response. */
const wrappers = ["data", "result", "token"];

/**
 * Reads and checks a token response (RFC 6749 sections 5.1 and 5.2).
 *
 * @param now start of lifetimes, ms.
 * @param secrets secrets of the request, redacted from errors of servers that repeat them.
 * @throws UpstreamOAuthError `token_request_rejected` (with the server's `error`), `rate_limited`, `server_error`, `token_invalid`.
 */
export async function readTokenAnswer(
  as: AuthorizationServer,
  clientId: string,
  response: Response,
  now: number,
  secrets: readonly string[] = [],
): Promise<TokenAnswer> {
  const text = await response.text();
  const host = new URL(as.token_endpoint ?? as.issuer).host;
  const given = readJsonObject(text.replace(/^\ufeff/, "")) ?? readForm(text);
  throwErrors(response, given, withoutSecrets(text, secrets), host);
  const members = given && withToken(given);
  const { token_type: typeGiven, ...fields } = members ?? {};
  const plain = {
    access_token: fields.access_token,
    token_type: tokenType(typeGiven),
    refresh_token: fields.refresh_token || undefined,
    issued_token_type: textOf(fields.issued_token_type),
  };
  if (typeof plain.refresh_token !== "string") delete plain.refresh_token;
  let answer: Awaited<ReturnType<typeof processGenericTokenEndpointResponse>>;
  try {
    answer = await processGenericTokenEndpointResponse(
      as,
      { client_id: clientId },
      // ID tokens are not used: one that cannot be checked (explicit endpoints have no issuer) must not be fatal.
      new Response(members ? JSON.stringify(plain) : "", { headers: { "content-type": "application/json" } }),
      { recognizedTokenTypes: Object.assign(Object.create(null), { n_a: () => {} }) },
    );
  } catch (cause) {
    throw new UpstreamOAuthError("token_invalid", `the token endpoint of ${host} returned no usable token`, {
      cause,
      detail: cause instanceof Error ? cause.message : "",
    });
  }
  for (const token of [answer.access_token, answer.refresh_token ?? answer.access_token]) {
    if (!isToken(token))
      throw new UpstreamOAuthError(
        "token_invalid",
        `the token endpoint of ${host} returned no usable token`,
        {
          detail: "the token is too long or has invalid characters",
        },
      );
  }
  const tokenTypes = { bearer: "Bearer", dpop: "DPoP", n_a: "N_A" } as const;
  const scopes = textsOf(fields.scope) ?? textsOf(fields.scopes);
  return {
    accessToken: answer.access_token,
    tokenType: tokenTypes[answer.token_type as keyof typeof tokenTypes],
    expiresAt: endOf(fields, ["expires_in"], ["expires_at", "expires_on", "expires"], now),
    refreshToken: answer.refresh_token,
    // Not standardized: GitHub and Google use the first name, Keycloak the second, Intuit the third.
    refreshExpiresAt: endOf(
      fields,
      ["refresh_token_expires_in", "refresh_expires_in", "x_refresh_token_expires_in"],
      ["refresh_token_expires_at", "refresh_expires_at"],
      now,
    ),
    scopes: scopes && readableScopes(scopes, maxScopes),
    issuedTokenType: plain.issued_token_type,
  };
}

/** RFC 6749 appendix A.12: printable ASCII. Other characters would not be safe in a header. */
function isToken(text: string): boolean {
  return text.length <= maxTokenLength && /^[\x20-\x7e]+$/.test(text);
}

/** `application/x-www-form-urlencoded` (GitHub), regardless of the content type. Repeated members are ignored. */
function readForm(text: string): Record<string, unknown> | undefined {
  if (text.length > maxFormLength || !/^\s*[\w.-]+=/.test(text)) return undefined;
  const form = new URLSearchParams(text.trim());
  if (!form.has("access_token") && !form.has("error")) return undefined;
  const names = [...new Set(form.keys())].filter((name) => form.getAll(name).length === 1);
  return Object.fromEntries(names.map((name) => [name, form.get(name)]));
}

/**
 * The members of the user's token. Slack has them below `authed_user`, possibly next to a token of the workspace's bot; others wrap the
 * whole response.
 */
function withToken(answer: Record<string, unknown>): Record<string, unknown> {
  const own = objectOf(answer.authed_user);
  const isBots = textOf(answer.token_type)?.toLowerCase() === "bot";
  if (textOf(own?.access_token) && (isBots || !answer.access_token)) return { ...own };
  if (answer.access_token) return answer;
  return wrappers.map((name) => objectOf(answer[name])).find((one) => textOf(one?.access_token)) ?? answer;
}

/** Normalizes an absent type and other spellings of "bearer". Other types are left to the check, since they need a proof in each call. */
function tokenType(value: unknown): unknown {
  if (value === undefined || value === null || value === "") return "bearer";
  const type = textOf(value);
  return type !== undefined && bearers.has(type.toLowerCase().replace(/[\s_-]/g, ""))
    ? "bearer"
    : (type ?? value);
}

/**
 * An expiry, from a lifetime (seconds), else from a time. 0, negative and extremely large values mean no expiry; unreadable values are
 * ignored.
 */
function endOf(
  fields: Readonly<Record<string, unknown>>,
  lifetimes: readonly string[],
  times: readonly string[],
  now: number,
): Date | undefined {
  for (const name of lifetimes) {
    const seconds = numberOf(fields[name]);
    if (seconds === undefined) continue;
    return seconds > 0 && seconds <= maxLifetime ? new Date(now + seconds * 1000) : undefined;
  }
  for (const name of times) {
    const seconds = numberOf(fields[name]);
    // Facebook's `expires` is a lifetime.
    const isLifetime = seconds !== undefined && seconds < maxLifetime / 10;
    const end = isLifetime ? now + seconds * 1000 : timeOf(fields[name]);
    if (end !== undefined && end > now && end <= now + maxLifetime * 1000) return new Date(end);
  }
  return undefined;
}

/** Members with secret values, as written in JSON (also nested as text), Python and forms. */
const secretMembers = [
  /("[\w-]*(?:token|secret|assertion|jwt)\\*"\s*:\s*\\*")(?:[^"\\]|\\[\s\S])*/gi,
  /('[\w-]*(?:token|secret|assertion|jwt)'\s*:\s*')[^']*/gi,
  /((?:^|[&?\s])[\w-]*(?:token|secret|assertion|jwt)=)[^&\s]*/gi,
];

/**
 * Redacts a server's response for the log: removes tokens and secrets, both new ones and those of the request.
 *
 * @param secrets secrets of the request
 */
export function withoutSecrets(text: string, secrets: readonly string[]): string {
  // Redacting shorter ones would remove unrelated text.
  const sent = secrets.filter(({ length }) => length >= 4);
  const left = sent.reduce((all, secret) => all.replaceAll(secret, "[redacted]"), text);
  return secretMembers.reduce((all, members) => all.replace(members, "$1[redacted]"), left);
}

/** Throws for error responses. Some servers (GitHub, Slack) return errors with status 200. */
function throwErrors(
  response: Response,
  answer: Record<string, unknown> | undefined,
  text: string,
  host: string,
): void {
  const error = oauthErrorOf(answer);
  const { status } = response;
  if (response.ok && error === undefined && answer?.ok !== false) return;
  const more = { detail: text, error, status, server: host, retryAfterSeconds: retryAfter(response) };
  if (status === 429 || (error !== undefined && slowDowns.has(error))) {
    throw new UpstreamOAuthError(
      "rate_limited",
      `the token endpoint of ${host} limits the rate of requests`,
      more,
    );
  }
  if (status >= 500 || (error !== undefined && outages.has(error))) {
    throw new UpstreamOAuthError("server_error", `the token endpoint of ${host} failed (${status})`, more);
  }
  const rejectsClient = error === undefined || error === "unauthorized_client";
  if (error === "invalid_client" || (status === 401 && rejectsClient)) {
    throw new UpstreamOAuthError(
      "client_rejected",
      `the token endpoint of ${host} rejected this gateway's client`,
      more,
    );
  }
  const isMissing = error === undefined && isNoEndpoint(status);
  throw new UpstreamOAuthError(
    isMissing ? "token_endpoint_unusable" : error === undefined ? "token_invalid" : "token_request_rejected",
    `the token endpoint of ${host} rejected the request (${status})`,
    more,
  );
}

/** Whether a status without an OAuth error means that the URL does not accept token requests. */
export function isNoEndpoint(status: number): boolean {
  return [404, 405, 410].includes(status);
}

/** Web frameworks put HTTP reason phrases into `error`; they say nothing about the request. */
const reasonPhrases = new Set(Object.values(STATUS_CODES).map((one) => one?.toLowerCase()));
/** Slack's codes and those of RFC 6749 and RFC 8628. */
const slowDowns = new Set([
  "slow_down",
  "ratelimited",
  "rate_limited",
  "rate_limit_exceeded",
  "too_many_requests",
]);
const outages = new Set([
  "temporarily_unavailable",
  "server_error",
  "internal_error",
  "internal_server_error",
  "fatal_error",
  "request_timeout",
  "service_unavailable",
]);

/**
 * The OAuth error code of a response (RFC 6749 section 5.2), normalized to its registered spelling. If `error` is an object, only known
 * codes in it count. Undefined: the response has none.
 */
export function oauthErrorOf(answer: Record<string, unknown> | undefined): string | undefined {
  const known = (value: unknown) => {
    const text = textOf(value)
      ?.toLowerCase()
      .replaceAll(/[\s-]+/g, "_");
    return text !== undefined && (isKnownError(text) || slowDowns.has(text) || outages.has(text))
      ? text
      : undefined;
  };
  const object = objectOf(answer?.error);
  if (object) return [object.error, object.code, object.type, object.status].map(known).find(Boolean);
  const text = textOf(answer?.error);
  if (text === undefined || reasonPhrases.has(text.toLowerCase())) return undefined;
  return known(text) ?? text;
}

/** RFC 9110 section 10.2.3, seconds; dates are rounded up. */
function retryAfter(response: Response): number | undefined {
  const header = response.headers.get("retry-after");
  if (!header) return undefined;
  const seconds = /^\d+$/.test(header) ? Number(header) : Math.ceil((Date.parse(header) - Date.now()) / 1000);
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds, 1), 3600) : undefined;
}
