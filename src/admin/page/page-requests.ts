import type { Context } from "koa";
import type { LiveConfig } from "../../config/live-config.ts";
import type { MetadataProofs } from "../../external-tokens/metadata-proofs.ts";
import type { SigningKeyRing } from "../../external-tokens/signing-keys.ts";
import { type AdminFrame, adminPage, type Section } from "../../pages/admin/frame.ts";
import type { SignIn } from "../../sign-in/sign-in.ts";
import type { Store } from "../../store/store.ts";
import type { Logger } from "../../telemetry/logger.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import type { RecentProblems } from "../../telemetry/recent-problems.ts";
import type { UpstreamOAuth } from "../../upstream-oauth/upstream-oauth.ts";
import type { UpstreamTokens } from "../../upstream-tokens/upstream-tokens.ts";
import type { AdminRole } from "../access.ts";
import type { RoleOf } from "../people-roles.ts";
import type { StoredRouteChangesDeps } from "../stored-route-changes.ts";
import type { PageActor } from "./page-sessions.ts";
import { sendAdminPage } from "./send-admin-page.ts";

export interface AdminPageDeps extends StoredRouteChangesDeps {
  readonly live: Pick<LiveConfig, "tryStoredRoutes" | "storedProblems" | "withoutCredential" | "lastProblem">;
  readonly store: Store;
  readonly signIn: Pick<SignIn, "recheck">;
  readonly roleOf: RoleOf;
  readonly upstreamOAuth: Pick<UpstreamOAuth, "prepare" | "discover">;
  readonly upstreamTokens: Pick<UpstreamTokens, "end">;
  readonly keys: Pick<SigningKeyRing, "rotate" | "signer">;
  readonly metadataProofs: Pick<MetadataProofs, "rotate">;
  readonly recentProblems: Pick<RecentProblems, "list">;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, "limitsReached">;
}

/** The reason in audit events of what is revoked here. */
export const revocationReason = "revoked by an administrator";

/** A request of somebody who may send it; the form's token has been checked. */
export interface PageRequest {
  readonly ctx: Context;
  readonly actor: PageActor;
  /** Empty for a GET request. */
  readonly form: URLSearchParams;
}

export type Handler = (request: PageRequest) => Promise<void>;

/** Where the sections add their pages. */
export interface PageRoutes {
  get(path: string, needed: AdminRole, handler: Handler): void;
  /** For administrators. */
  post(path: string, handler: Handler): void;
}

/** What just happened. Fixed texts only: anyone can create a link to a page. */
const notices = {
  created: "The route is created, and in force.",
  changed: "The route is changed.",
  deleted: "The route is deleted. Its connections end within a day.",
  connection_revoked: "The connection is deleted, and its tokens are revoked at the upstream.",
  connection_deleted:
    "The connection is deleted, but its tokens could not be revoked at the upstream’s authorization server: revoke them there.",
  grant_revoked: "The grant is revoked.",
  account_revoked: "The service account is revoked. Its tokens are invalid.",
  key_rotated: "There is a new signing key. The older ones still verify what they have signed.",
} as const;
export type Done = keyof typeof notices;

/** Answers with a page of a section. */
export function showSection(
  { ctx, actor }: PageRequest,
  section: Section,
  page: { title: string; content: string; status?: number; problem?: string },
): void {
  const done = Object.entries(notices).find(([name]) => name === ctx.query.done)?.[1];
  const notice: AdminFrame["notice"] = page.problem
    ? { kind: "problem", text: page.problem }
    : done && { kind: "done", text: done };
  const { person, role, csrf } = actor;
  sendAdminPage(ctx, page.status ?? 200, adminPage({ section, person, role, csrf, notice }, page));
}

/** After a change: back to a page that can be reloaded. */
export function goTo({ ctx }: PageRequest, path: string, done: Done): void {
  ctx.set("cache-control", "no-store");
  ctx.status = 303;
  ctx.redirect(`${path}?done=${done}`);
}

/** A query parameter or a field, without blanks around it; undefined if it is empty. */
export function given(values: URLSearchParams, name: string): string | undefined {
  return values.get(name)?.trim() || undefined;
}

export function queryOf(ctx: Context): URLSearchParams {
  return new URLSearchParams(ctx.querystring);
}

/** A link to a page of a list; empty parameters are left out. */
export function link(path: string, parameters: Readonly<Record<string, string | undefined>>): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) if (value) query.set(name, value);
  return query.size > 0 ? `${path}?${query}` : path;
}

/** The first page of a listing; `next`: its last entry, if there are more. */
export async function firstPage<T>(
  pages: AsyncIterable<readonly T[]>,
  size: number,
): Promise<{ readonly entries: readonly T[]; readonly next?: T }> {
  const found: T[] = [];
  // Rejected rows are left out of a page: it may have few entries, or none, and not be the last.
  for await (const page of pages) {
    found.push(...page);
    if (found.length > size) break;
  }
  const entries = found.slice(0, size);
  const next = found.length > size ? entries.at(-1) : undefined;
  return { entries, ...(next !== undefined && { next }) };
}
