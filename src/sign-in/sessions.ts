import { randomBytes, timingSafeEqual } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { parseCookie } from "cookie";
import type { Context } from "koa";
import { ownCookieName } from "../config/cookies.ts";
import type { AuditEvent } from "../store/audit-events.ts";
import type { BrowserSessionRecord } from "../store/browser-sessions.ts";
import { hashedHandle } from "../store/hashed-handle.ts";
import { boundedCache } from "../util/bounded-cache.ts";
import { keysOfGroups } from "../util/keys-of-groups.ts";
import type { BrowserSession, SignInDeps } from "./sign-in.ts";

const sessionCookie = (secure: boolean) => ownCookieName("session", secure);
const cachedMs = 30_000;

/** Browser sessions: the session cookie and its stored record. */
export interface Sessions {
  person(ctx: Context): Promise<BrowserSession | undefined>;
  fromCookieHeader(
    cookie: string,
    host: string,
  ): BrowserSession | undefined | Promise<BrowserSession | undefined>;
  /** Starts a session on this host with a new id (prevents session fixation), and sets its cookie. */
  start(ctx: Context, session: { userId: string; parentName?: string; expiresAt: Date }): Promise<void>;
  /** Ends the session of this browser, its parent and all sessions derived from them. */
  end(ctx: Context, audit?: AuditEvent): Promise<void>;
  /** Clears the user's cached sessions after a local change, whose notification arrives later. */
  forget(userId: string): void;
  csrfToken(ctx: Context): string | undefined;
  csrfMatches(ctx: Context, token: string | null | undefined): boolean;
  close(): void;
}

/** @param onUncheckedEmail called for a user with a record from a version that did not check `email_verified` */
export function createBrowserSessions(
  { store, routes, metrics }: SignInDeps,
  onUncheckedEmail: (userId: string) => void,
): Sessions {
  const namesOf = keysOfGroups();
  const people = boundedCache<string, BrowserSession>(routes().config.limits.cacheEntries, {
    ttl: cachedMs,
    dispose: ({ userId }, name, reason) => {
      namesOf.remove(userId, name);
      if (reason === "evict") metrics?.cacheEvictions.inc({ cache: "browser_session" });
    },
  });
  const unsubscribe = store.notifications.subscribe((change) => {
    if (change.table === "everything") {
      for (const changed of changedSince) changed.add("everybody");
      people.clear();
    }
    if (change.table === "browser_session") forget(change.userId);
  });

  /** For each read in progress: the users whose sessions have changed since it started; their results must not be cached. */
  const changedSince = new Set<Set<string>>();

  function forget(userId: string): void {
    for (const changed of changedSince) changed.add(userId);
    for (const name of namesOf.of(userId)) people.delete(name);
  }

  async function load(id: string, host: string): Promise<BrowserSession | undefined> {
    const changed = new Set<string>();
    changedSince.add(changed);
    try {
      const person = await read(id, host);
      if (person && !changed.has(person.userId) && !changed.has("everybody")) {
        const name = `${person.sessionName} ${host}`;
        people.set(name, person);
        namesOf.add(person.userId, name);
      }
      return person;
    } finally {
      changedSince.delete(changed);
    }
  }

  async function read(id: string, host: string): Promise<BrowserSession | undefined> {
    const session = await store.browserSessions.find(id);
    if (!session || session.host !== host || session.expiresAt.getTime() <= Date.now()) return undefined;
    const signedIn = await store.signInSessions.find(session.userId);
    if (!signedIn) return undefined;
    if (signedIn.emailUnchecked) onUncheckedEmail(signedIn.userId);
    const { userId, email, name, groups, claims } = signedIn;
    return {
      userId,
      email,
      name,
      groups,
      claims,
      sessionName: hashedHandle(id),
      parentSessionName: session.parentName,
      sessionExpiresAt: Math.floor(session.expiresAt.getTime() / 1000),
      checkedAt: Math.floor(signedIn.checkedAt.getTime() / 1000),
    };
  }

  function fromId(
    id: string | undefined,
    host: string,
  ): BrowserSession | undefined | Promise<BrowserSession | undefined> {
    if (!id || !/^[\w-]{43}$/.test(id)) return undefined;
    // Without a connected listener, sign-outs on other replicas go unnoticed: read from the store.
    const known = store.notifications.healthy() ? people.get(`${hashedHandle(id)} ${host}`) : undefined;
    if (known && known.sessionExpiresAt * 1000 > Date.now()) return known;
    return load(id, host);
  }

  const csrfToken = (ctx: Context): string | undefined => {
    const id = ctx.cookies.get(sessionCookie(ctx.secure));
    return id ? hashedHandle(`csrf ${id}`) : undefined;
  };

  return {
    person: async (ctx) => fromId(ctx.cookies.get(sessionCookie(ctx.secure)), ctx.host),
    fromCookieHeader(cookie, host) {
      const name = sessionCookie(routes().originOf(host)?.startsWith("http:") !== true);
      return cookie.includes(name) ? fromId(parseCookie(cookie)[name], host) : undefined;
    },
    async start(ctx, { userId, parentName, expiresAt }) {
      const id = randomBytes(32).toString("base64url");
      const session: BrowserSessionRecord = {
        id,
        host: ctx.host,
        userId,
        parentName,
        createdAt: new Date(),
        expiresAt,
      };
      await store.browserSessions.create(session);
      ctx.cookies.set(sessionCookie(ctx.secure), id, { ...cookieOptions(ctx), expires: expiresAt });
    },
    async end(ctx, audit) {
      const id = ctx.cookies.get(sessionCookie(ctx.secure));
      if (id) await store.browserSessions.end(id, audit);
      if (id) people.delete(`${hashedHandle(id)} ${ctx.host}`);
      ctx.cookies.set(sessionCookie(ctx.secure), null, cookieOptions(ctx));
    },
    forget,
    csrfToken,
    csrfMatches(ctx, token) {
      const expected = csrfToken(ctx);
      if (!expected || !token || Buffer.byteLength(token) !== expected.length) return false;
      return timingSafeEqual(Buffer.from(token), Buffer.from(expected));
    },
    close: unsubscribe,
  };
}

function cookieOptions({ secure }: Pick<Context, "secure">) {
  return { path: "/", secure, httpOnly: true, sameSite: "lax", overwrite: true } as const;
}

/** Tabs that a new browser opens concurrently each get their own cookie: two random letters distinguish them. */
const bindingCookie = { https: /^__Host-mcp_browser(?:_[\w-]{2})?$/, http: /^mcp_browser(?:_[\w-]{2})?$/ };
const maxCookies = 16;
const minutes = 60;

/** Cookies that the current response sets and its request does not have yet. */
const fresh = new WeakMap<IncomingMessage, readonly [name: string, value: string]>();

/**
 * A random cookie on this host, set before a redirect to another host and required on return. All tabs of a browser share it, so that
 * concurrent sign-ins do not interfere. Only its value is proof, and the value never appears in a URL.
 */
export const browserBinding = {
  /**
   * Sets or extends the cookie for an hour; returns a hash of its value, safe in URLs.
   * @param purpose makes the hash invalid for any other purpose
   */
  set(ctx: Context, purpose?: string): string {
    const [known] = held(ctx);
    const [name, value] = known ?? [
      ownCookieName(`browser_${randomBytes(2).toString("base64url").slice(0, 2)}`, ctx.secure),
      randomBytes(32).toString("base64url"),
    ];
    fresh.set(ctx.req, [name, value]);
    ctx.cookies.set(name, value, {
      path: "/",
      secure: ctx.secure,
      httpOnly: true,
      sameSite: "lax",
      maxAge: minutes * 60_000,
      overwrite: true,
    });
    return hash(value, purpose);
  },
  /** Whether this browser has the cookie with that hash, for the same purpose. */
  matches(ctx: Context, name: string, purpose?: string): boolean {
    return held(ctx).some(([, value]) => hash(value, purpose) === name);
  },
};

function held(ctx: Context): (readonly [name: string, value: string])[] {
  const now = fresh.get(ctx.req);
  const cookieName = ctx.secure ? bindingCookie.https : bindingCookie.http;
  const sent = Object.entries(parseCookie(ctx.get("cookie"))).flatMap(([name, value]) =>
    cookieName.test(name) && value !== undefined && /^[\w-]{43}$/.test(value) ? [[name, value] as const] : [],
  );
  return [...(now ? [now] : []), ...sent.slice(0, maxCookies)];
}

function hash(value: string, purpose: string | undefined): string {
  return hashedHandle(purpose === undefined ? value : `${purpose} ${value}`);
}
