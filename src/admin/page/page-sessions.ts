import { randomBytes, timingSafeEqual } from "node:crypto";
import type { Context } from "koa";
import { ownCookieName } from "../../config/cookies.ts";
import { countPer } from "../../server/http/limits.ts";
import { peerAddress, requestId } from "../../server/http/request.ts";
import type { SignIn } from "../../sign-in/sign-in.ts";
import { hashedHandle } from "../../store/hashed-handle.ts";
import type { Store } from "../../store/store.ts";
import type { Logger } from "../../telemetry/logger.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import type { Actor } from "../access.ts";
import type { RoleOf } from "../people-roles.ts";
import { readCode } from "./one-time-code.ts";

/** A session ends after this time at the latest, ms. */
const sessionMs = 8 * 3_600_000;
/** Codes that one address may enter. A code has 80 bits; this keeps guesses from loading the database. */
const attempts = { max: 30, windowMs: 15 * 60_000 };

/** Somebody who is signed in on the admin page. */
export interface PageActor extends Actor {
  /** Hidden field of every form. */
  readonly csrf: string;
  /** How people know them. */
  readonly person: string;
}

export interface PageSessions {
  /** Starts a session with a one-time code, with a new id (prevents session fixation), and sets its cookie. */
  signIn(ctx: Context, code: string): Promise<"ok" | "too_many" | "rejected">;
  /**
   * Who is signed in, as the provider reports them now and by the policies of now. Undefined if the browser session that showed the
   * code has ended, or if the person no longer has a role.
   */
  actor(ctx: Context): Promise<PageActor | undefined>;
  csrfMatches(actor: PageActor, token: string | null): boolean;
  end(ctx: Context, actor: PageActor): Promise<void>;
}

export interface PageSessionsDeps {
  readonly store: Pick<Store, "adminSessions" | "browserSessions" | "signInSessions">;
  readonly signIn: Pick<SignIn, "recheck">;
  readonly roleOf: RoleOf;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, "limitsReached">;
}

/** Sessions of the admin page, in the store: any replica answers. */
export function createPageSessions(deps: PageSessionsDeps): PageSessions {
  const { store, roleOf, logger, metrics } = deps;
  const counts = countPer(attempts.windowMs);

  /** The person behind a code or a session, if their browser session lives and they have a role. */
  async function resolve({ sessionName, userId }: { readonly sessionName: string; readonly userId: string }) {
    if (!(await store.browserSessions.isLive(sessionName))) return undefined;
    // Also asks the provider, if its last answer is older than `sign_in.recheck`.
    if ((await deps.signIn.recheck(userId)) !== "ok") return undefined;
    const person = await store.signInSessions.find(userId);
    const role = person && roleOf(person);
    return role && { person: person.email ?? person.name ?? userId, role, name: `user:${userId}` };
  }

  /** The person of a session that has neither ended nor expired. */
  async function resolveSession(id: string) {
    const session = await store.adminSessions.find(id);
    return session && (await resolve(session));
  }

  return {
    async signIn(ctx, entered) {
      // Counted first, so that concurrent requests cannot all pass.
      if (!counts.take(peerAddress(ctx.req) ?? "", attempts.max)) {
        metrics.limitsReached.inc({ limit: "admin_code_attempts" });
        return "too_many";
      }
      const code = readCode(entered);
      const taken = code === undefined ? undefined : await store.adminSessions.takeCode(code);
      const found = taken && (await resolve(taken));
      if (!taken || !found) {
        logger.warn({ requestId: requestId(ctx.req) }, "a one-time code of the admin page was rejected");
        return "rejected";
      }
      const id = randomBytes(32).toString("base64url");
      const expiresAt = new Date(Date.now() + sessionMs);
      const { sessionName, userId } = taken;
      await store.adminSessions.create(
        { id, sessionName, userId, expiresAt },
        {
          action: "admin.signed_in",
          actor: found.name,
          userId,
          requestId: requestId(ctx.req),
          detail: { role: found.role },
        },
        sessionId(ctx),
      );
      ctx.cookies.set(cookieName(ctx), id, { ...cookieOptions(ctx), expires: expiresAt });
      return "ok";
    },
    async actor(ctx) {
      const id = sessionId(ctx);
      if (id === undefined) return undefined;
      const found = await resolveSession(id);
      const isStillAllowed = async () => (await resolveSession(id))?.role === found?.role;
      return found && { ...found, isStillAllowed, csrf: hashedHandle(`csrf ${id}`) };
    },
    csrfMatches({ csrf }, token) {
      if (!token || Buffer.byteLength(token) !== csrf.length) return false;
      return timingSafeEqual(Buffer.from(token), Buffer.from(csrf));
    },
    async end(ctx, actor) {
      const id = sessionId(ctx);
      const userId = actor.name.replace(/^user:/, "");
      const audit = { action: "admin.signed_out", actor: actor.name, userId } as const;
      if (id) await store.adminSessions.end(id, { ...audit, requestId: requestId(ctx.req) });
      ctx.cookies.set(cookieName(ctx), null, cookieOptions(ctx));
    },
  };
}

const cookieName = ({ secure }: Pick<Context, "secure">) => ownCookieName("admin", secure);

function sessionId(ctx: Context): string | undefined {
  const id = ctx.cookies.get(cookieName(ctx));
  return id !== undefined && /^[\w-]{43}$/.test(id) ? id : undefined;
}

/** `__Host-` requires the path `/`; over plain HTTP, other paths of a forwarded port do not get the cookie. */
function cookieOptions({ secure }: Pick<Context, "secure">) {
  const path = secure ? "/" : "/admin";
  return { path, secure, httpOnly: true, sameSite: "strict", overwrite: true } as const;
}
