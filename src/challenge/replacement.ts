import type { Route } from "../config/route.ts";
import { denialBody } from "../policy/refusal-body.ts";

/** What the client gets in place of the upstream's answer. */
export interface Replacement {
  readonly status: 401 | 403 | 502 | 503;
  /** Lower-case names. They overwrite. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: string;
}

/** For whom it is: what the client asked for. */
export interface Asked {
  readonly route: Route;
  /** Path as the client asked for it, without query. */
  readonly path: string;
  readonly requestId: string;
}

/** The same as on every answer of ours (F2.8): a browser's client must be able to read the challenge. */
const common = [
  ["content-type", "application/json"],
  ["cache-control", "no-store"],
  ["access-control-allow-origin", "*"],
  ["access-control-expose-headers", "WWW-Authenticate, MCP-Session-Id"],
  ["vary", "Origin"],
] as const;

/**
 * The 401 that sends a client to our authorization server instead of the upstream's (RFC 6750 section 3,
 * RFC 9728 section 5.1). Always `invalid_token`, also for a step-up: SDK clients answer it with their refresh
 * token, which is refused while the upstream's consent is missing (F3.6), and then ask the person.
 *
 * @param description after `Unauthorized: `, for a person; no quotes.
 */
export function challenge(asked: Asked, description: string, scopes: readonly string[]): Replacement {
  const path = asked.path === "/" ? "" : asked.path;
  const resourceMetadata = `${asked.route.origin}/.well-known/oauth-protected-resource${path}`;
  const whole = `Unauthorized: ${description}`;
  // RFC 6749 section 3.3: whatever else an upstream may have called a scope would break the header.
  const clean = scopes.filter((scope) => /^[!#-[\]-~]+$/.test(scope));
  const parameters = [
    `resource_metadata="${resourceMetadata}"`,
    `error="invalid_token"`,
    `error_description="${whole}"`,
    ...(clean.length > 0 ? [`scope="${clean.join(" ")}"`] : []),
  ];
  return {
    status: 401,
    headers: [...common, ["www-authenticate", `Bearer ${parameters.join(", ")}`]],
    body: JSON.stringify({
      error: "invalid_token",
      error_description: whole,
      resource_metadata: resourceMetadata,
      request_id: asked.requestId,
    }),
  };
}

/** 503: nothing the client or its user could mend, or nothing but trying again. */
export function unavailable(requestId: string, retryAfterSeconds: number, description: string): Replacement {
  return {
    status: 503,
    headers: [...common, ["retry-after", String(retryAfterSeconds)]],
    body: denialBody("temporarily_unavailable", description, requestId),
  };
}

/** Neither trying again nor consenting would help. The upstream's own challenge does not go along. */
export function giveUp(requestId: string, status: 403 | 502, code: string, description: string): Replacement {
  return {
    status,
    headers: [...common],
    body: denialBody(code, description, requestId),
  };
}
