import { createHash, timingSafeEqual } from "node:crypto";
import type { AdminAccess, AdminToken } from "../config/admin-access.ts";
import type { Problem } from "../config/problems.ts";

/** `admin` reads and changes everything; `viewer` sees a redacted view of the enabled routes. */
export type AdminRole = "admin" | "viewer";

/** Who uses the admin API or the admin page. */
export interface Actor {
  readonly role: AdminRole;
  /** As in audit events and log lines: `token:NAME` or `user:PROVIDER/SUBJECT`. */
  readonly name: string;
  /** Whether the role is what it was: a request may wait for an upstream, and its sender may lose their access in the meantime. */
  readonly isStillAllowed: () => Promise<boolean>;
}

/**
 * The actor of an `Authorization` header's token, if any. Compares with every token, in constant time.
 * @param current the tokens of the configuration in force
 */
export function tokenActor(
  authorization: string | undefined,
  current: () => Pick<AdminAccess, "adminTokens" | "viewerTokens">,
): Actor | undefined {
  const access = current();
  const presented = digest(/^Bearer +([\x21-\x7e]+) *$/i.exec(authorization ?? "")?.[1] ?? "");
  const matching = (all: readonly AdminToken[]) =>
    all.filter(({ token }) => timingSafeEqual(digest(token), presented))[0];
  const [admin, viewer] = [matching(access.adminTokens), matching(access.viewerTokens)];
  const known = admin ?? viewer;
  if (known === undefined) return undefined;
  const role = admin === undefined ? "viewer" : "admin";
  const isStillAllowed = async () => tokenActor(authorization, current)?.role === role;
  return { role, name: `token:${known.name}`, isStillAllowed };
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

/** An error of the admin API and the status that it is answered with. */
export class AdminError extends Error {
  readonly status: 400 | 401 | 403 | 404 | 409 | 412 | 415 | 422;
  readonly code: string;
  readonly problems: readonly Problem[] | undefined;
  /** What to change first, or to configure manually. */
  readonly remedy: string | undefined;

  constructor(
    status: AdminError["status"],
    code: string,
    message: string,
    more: { problems?: readonly Problem[]; remedy?: string } = {},
  ) {
    super(message);
    this.name = "AdminError";
    this.status = status;
    this.code = code;
    this.problems = more.problems;
    this.remedy = more.remedy;
  }
}
