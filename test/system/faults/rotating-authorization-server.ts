import { randomBytes } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { text } from "node:stream/consumers";
import { type Listener, listen } from "../../../dev/demo/listen.ts";

/** Behavior of the token endpoint. A failed request changes nothing, as if its transaction was rolled back. */
export type Behaviour =
  | { readonly kind: "well" }
  | { readonly kind: "status"; readonly status: 500 | 429; readonly retryAfter?: number }
  | { readonly kind: "hangs" }
  /** Works, but responds only after `until`. */
  | { readonly kind: "waits"; readonly until: Promise<unknown> }
  | { readonly kind: "closes_mid_body" };

/** One consent: a chain of single-use refresh tokens. */
interface Family {
  readonly owner: string;
  refreshToken: string;
  /** Expiry and lifetime of the newest access token, ms. */
  expiresAt: number;
  lifeMs: number;
  /** When the newest tokens were issued. */
  rotatedAt: number;
  /** The response was interrupted: the newest tokens may be lost. */
  answerLost: boolean;
  revoked?: { readonly by: "reuse" | "request"; readonly at: number; readonly inGap: boolean };
}

export interface Counts {
  /** Refreshes that succeeded. */
  readonly refreshes: number;
  /** Of these: with an access token that had expired or was in the last fifth of its lifetime. */
  readonly needed: number;
  /** Calls that failed because of the current behavior. */
  readonly failed: number;
  /** Families revoked because a used refresh token was sent again. */
  readonly revokedByReuse: number;
  /** Of these: families whose newest tokens were lost with a killed replica or an interrupted response. */
  readonly revokedInGap: number;
}

export interface RotatingAuthorizationServer extends Pick<Listener, "url" | "close"> {
  readonly clientId: string;
  readonly clientSecret: string;
  /** The tokens of a consent by `owner`. @param lifeSeconds lifetime of the first access token */
  issue(owner: string, lifeSeconds?: number): { accessToken: string; refreshToken: string; expiresAt: Date };
  /** The owner of an access token, while it is valid. */
  ownerOf(accessToken: string): string | undefined;
  behave(behaviour: Behaviour): void;
  /** Sets the lifetime of new access tokens. */
  giveFor(lifeSeconds: number): void;
  counts(): Counts;
  /**
   * Owners whose newest refresh token is not stored. @param stored refresh tokens by owner
   */
  unstored(stored: ReadonlyMap<string, string | undefined>): string[];
  /** The response with this owner's newest tokens was lost with a killed replica; returns its age, ms. */
  answerLost(owner: string): number;
  isRevoked(owner: string): boolean;
  /** Owners of the tokens sent to the revocation endpoint, in order; undefined: an unknown token. */
  readonly revocations: readonly (string | undefined)[];
  /** Simulates that the owner has withdrawn the consent there. */
  withdraw(owner: string): void;
}

/** Tolerance after expiry, like most resource servers, ms. */
const leewayMs = 3_000;

/**
 * A small, fast OAuth authorization server (RFC 6749 section 6, RFC 7009) whose access tokens live `lifeSeconds` and whose refresh
 * tokens are single-use: reuse revokes the whole family (RFC 9700 section 4.14.2).
 */
export async function rotatingAuthorizationServer(options: {
  lifeSeconds: number;
}): Promise<RotatingAuthorizationServer> {
  const clientId = "gateway";
  const clientSecret = randomBytes(16).toString("hex");
  const basic = `Basic ${Buffer.from(`${clientId}:${clientSecret}`).toString("base64")}`;
  const byRefreshToken = new Map<string, Family>();
  const byAccessToken = new Map<string, { family: Family; expiresAt: number }>();
  const families = new Map<string, Family>();
  const revocations: (string | undefined)[] = [];
  const count = { refreshes: 0, needed: 0, failed: 0, revokedByReuse: 0, revokedInGap: 0 };
  let { lifeSeconds } = options;
  let behaviour: Behaviour = { kind: "well" };

  function give(family: Family, lifeSeconds: number) {
    const accessToken = `at_${randomBytes(18).toString("base64url")}`;
    family.refreshToken = `rt_${randomBytes(18).toString("base64url")}`;
    family.lifeMs = lifeSeconds * 1000;
    family.rotatedAt = Date.now();
    family.expiresAt = family.rotatedAt + family.lifeMs;
    byRefreshToken.set(family.refreshToken, family);
    byAccessToken.set(accessToken, { family, expiresAt: family.expiresAt });
    return { accessToken, refreshToken: family.refreshToken, expiresAt: new Date(family.expiresAt) };
  }

  function refresh(refreshToken: string, response: ServerResponse): void {
    const family = byRefreshToken.get(refreshToken);
    if (!family || family.revoked) {
      refuse(response, 400, "invalid_grant");
      return;
    }
    if (family.refreshToken !== refreshToken) {
      const inGap = family.answerLost;
      family.revoked = { by: "reuse", at: Date.now(), inGap };
      count.revokedByReuse++;
      if (inGap) count.revokedInGap++;
      refuse(response, 400, "invalid_grant");
      return;
    }
    count.refreshes++;
    if (family.expiresAt - Date.now() <= family.lifeMs / 5) count.needed++;
    const given = give(family, lifeSeconds);
    family.answerLost = true;
    response.once("finish", () => {
      family.answerLost = false;
    });
    json(response, 200, {
      access_token: given.accessToken,
      token_type: "Bearer",
      expires_in: lifeSeconds,
      refresh_token: given.refreshToken,
    });
  }

  function fails(response: ServerResponse): boolean {
    const now = behaviour;
    if (now.kind === "well" || now.kind === "waits") return false;
    count.failed++;
    if (now.kind === "status") {
      if (now.retryAfter) response.setHeader("retry-after", String(now.retryAfter));
      json(response, now.status, { error: "temporarily_unavailable" });
    } else if (now.kind === "closes_mid_body") {
      response.writeHead(200, { "content-type": "application/json", "content-length": "400" });
      response.write('{"access_token":"at_');
      setTimeout(() => response.destroy(), 5);
    }
    return true;
  }

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const form = new URLSearchParams(await text(request));
    // A client that has disconnected gets no new tokens.
    if (behaviour.kind === "waits") await behaviour.until;
    if (request.socket.destroyed || fails(response)) return;
    if (request.headers.authorization !== basic) return refuse(response, 401, "invalid_client");
    if (request.url === "/token") {
      if (form.get("grant_type") !== "refresh_token") return refuse(response, 400, "unsupported_grant_type");
      return refresh(form.get("refresh_token") ?? "", response);
    }
    if (request.url === "/revoke") {
      const token = form.get("token") ?? "";
      const family = byRefreshToken.get(token) ?? byAccessToken.get(token)?.family;
      revocations.push(family?.owner);
      if (family) family.revoked ??= { by: "request", at: Date.now(), inGap: false };
      return json(response, 200, {});
    }
    json(response, 404, { error: "not_found" });
  }

  const sweep = setInterval(() => {
    for (const [token, { expiresAt }] of byAccessToken)
      if (expiresAt + 60_000 < Date.now()) byAccessToken.delete(token);
  }, 10_000);
  sweep.unref();
  const server = await listen((request, response) => {
    handle(request, response).catch(() => response.destroy());
  });
  return {
    url: server.url,
    clientId,
    clientSecret,
    issue(owner, firstLifeSeconds = lifeSeconds) {
      const family: Family = {
        owner,
        refreshToken: "",
        expiresAt: 0,
        lifeMs: 0,
        rotatedAt: 0,
        answerLost: false,
      };
      families.set(owner, family);
      return give(family, firstLifeSeconds);
    },
    ownerOf(accessToken) {
      const found = byAccessToken.get(accessToken);
      if (!found || found.family.revoked || found.expiresAt + leewayMs < Date.now()) return undefined;
      return found.family.owner;
    },
    behave(next) {
      behaviour = next;
    },
    giveFor(seconds) {
      lifeSeconds = seconds;
    },
    counts: () => ({ ...count }),
    unstored: (stored) =>
      [...families.values()]
        .filter(({ owner, refreshToken, revoked }) => !revoked && stored.get(owner) !== refreshToken)
        .map(({ owner }) => owner),
    answerLost(owner) {
      const family = families.get(owner);
      if (!family) return 0;
      family.answerLost = true;
      return Date.now() - family.rotatedAt;
    },
    revocations,
    withdraw(owner) {
      const family = families.get(owner);
      if (family) family.revoked ??= { by: "request", at: Date.now(), inGap: false };
    },
    isRevoked: (owner) => families.get(owner)?.revoked !== undefined,
    async close() {
      clearInterval(sweep);
      await server.close();
    },
  };
}

function refuse(response: ServerResponse, status: number, error: string): void {
  if (status === 401) response.setHeader("www-authenticate", 'Basic realm="token"');
  json(response, status, { error });
}

function json(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { "content-type": "application/json", "cache-control": "no-store" });
  response.end(JSON.stringify(body));
}
