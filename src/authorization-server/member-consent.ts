import { hash } from "node:crypto";
import { membersOf } from "../config/aggregates.ts";
import type { Route } from "../model/route.ts";
import type { Subject } from "../model/subject.ts";
import type { GrantedMember } from "../store/granted-members.ts";
import { mapInTime, pagePace } from "../util/map-in-time.ts";
import type { AuthorizationServerDeps } from "./authorization-server.ts";

/** What a person has decided about the members of an aggregated route, by `memberName`. */
export interface MemberChoice {
  readonly allowed: readonly string[];
  /** All that the page has listed: another one makes the consent incomplete. */
  readonly seen: readonly string[];
}

/** How many members a consent page lists: the form of a longer list could exceed `limits.body_bytes`. */
const maxListed = 400;

/**
 * The name of a member in forms, URLs and consents: a route that has moved to another upstream is another member. The names reveal
 * nothing, and fit any number of times into a form.
 */
export function memberName({ id, upstream }: Pick<Route, "id" | "upstream">): string {
  return hash("sha256", JSON.stringify([id, upstream]), "base64url").slice(0, 12);
}

/** The same of a member as a grant stores it. */
export function storedName({ routeId: id, upstream }: GrantedMember): string {
  return memberName({ id, upstream });
}

/** The members of an aggregated route that a person may use; none for other routes. */
export function offeredMembers(
  { routes, mayReach }: Pick<AuthorizationServerDeps, "routes" | "mayReach">,
  person: Subject,
  route: Route,
): readonly Route[] {
  const members = membersOf(routes().config, route).map((member) => member.route);
  return members.filter((member) => mayReach(person, member)).slice(0, maxListed);
}

/** The members of an aggregated route with these names, as a grant stores them. */
export function namedMembers(
  { routes }: Pick<AuthorizationServerDeps, "routes">,
  route: Route,
  names: readonly string[],
): readonly Route[] {
  const wanted = new Set(names);
  return membersOf(routes().config, route)
    .map((member) => member.route)
    .filter((member) => wanted.has(memberName(member)));
}

/** A member as a grant stores it. */
export function grantedMember({ id, upstream }: Route): GrantedMember {
  return { routeId: id, upstream };
}

/** The choice of a posted consent form. Members that the form did not list are neither allowed nor seen. */
export function readChoice(form: URLSearchParams, offered: readonly Route[]): MemberChoice {
  const listed = new Set((form.get("shown") ?? "").split(" "));
  const ticked = new Set(form.getAll("member"));
  const seen = offered.map(memberName).filter((name) => listed.has(name));
  return { allowed: seen.filter((name) => ticked.has(name)), seen };
}

/** Whether the person has seen every member that they would be offered now. */
export function hasSeenAll({ seen }: MemberChoice, offered: readonly Route[]): boolean {
  const known = new Set(seen);
  return offered.every((member) => known.has(memberName(member)));
}

/** Reads a choice that was stored with an interaction or a grant. */
export function storedChoice(value: unknown): MemberChoice | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const { allowed, seen }: { allowed?: unknown; seen?: unknown } = value;
  return { allowed: namesIn(allowed), seen: namesIn(seen) };
}

/** The names in a stored list. */
export function namesIn(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((name) => typeof name === "string") : [];
}

/** A member and the state of the person's connection to it. */
export interface MemberState {
  readonly route: Route;
  readonly state: "connected" | "not_needed" | "missing" | "unavailable";
}

/**
 * The states of a person's connections. A server that does not answer in time, or could not be asked in the time for all, is unavailable.
 * Rejects if the store does.
 */
export function memberStates(
  { upstreamTokens }: Pick<AuthorizationServerDeps, "upstreamTokens">,
  userId: string,
  members: readonly Route[],
): Promise<MemberState[]> {
  return mapInTime(
    members,
    pagePace,
    async (route): Promise<MemberState> => {
      const { state } = await upstreamTokens.connectionState(userId, route);
      return { route, state };
    },
    (route) => ({ route, state: "unavailable" }),
  );
}
