import { createHash, timingSafeEqual } from "node:crypto";
import type { Config } from "../config/config.ts";
import type { Problem } from "../config/problems.ts";

/** `admin` reads and changes everything; `viewer` sees a redacted view of the routes. */
export type AdminRole = "admin" | "viewer";

/** The role of an `Authorization` header's token, if any. Compares in constant time. */
export function adminRole(
  authorization: string | undefined,
  tokens: Config["adminApi"],
): AdminRole | undefined {
  const presented = digest(/^Bearer +([\x21-\x7e]+) *$/i.exec(authorization ?? "")?.[1] ?? "");
  const matches = (known: readonly string[]) =>
    known.reduce((found, token) => timingSafeEqual(digest(token), presented) || found, false);
  const admin = matches(tokens.adminTokens);
  const viewer = matches(tokens.viewerTokens);
  if (admin) return "admin";
  return viewer ? "viewer" : undefined;
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
