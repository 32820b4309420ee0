import { hash } from "node:crypto";
import type { Member } from "../config/aggregates.ts";

/** Longest name that clients accept, characters. */
const maxLength = 64;
const fitting = /^[A-Za-z0-9_-]+$/;
/** What the name of a shortened one ends with: 40 bits of SHA-256. */
const shortened = /_[0-9a-f]{10}$/;

/** The name, after the prefix, of the tool that connects a member. A member's own tool of this name gets another one. */
export const connectName = "connect";

/** How the names and URIs of one member appear to clients of an aggregated route. */
export interface Naming {
  readonly member: Member;
  /** It is the only member and has no prefix: its names and URIs are its own. */
  readonly transparent: boolean;
}

/** The namings of all members of a route, in its order. */
export function namingsOf(members: readonly Member[]): readonly Naming[] {
  return members.map((member) => ({ member, transparent: members.length === 1 && member.prefix === "" }));
}

/**
 * The name of a member's tool or prompt in the aggregated route, the same on every replica. Names that are too long, have other
 * characters, or could be taken for a reserved or a shortened one are cut and end with a hash. No two names of different members are
 * equal: prefixes do not begin each other, and a name with a hash is never the plain name of another.
 */
export function outerName({ member, transparent }: Naming, name: string): string {
  if (transparent) return name;
  const plain = member.prefix + name;
  if (plain.length <= maxLength && fitting.test(name) && name !== connectName && !shortened.test(name))
    return plain;
  const digest = hash("sha256", JSON.stringify([member.route.id, name]), "hex").slice(0, 10);
  const room = maxLength - member.prefix.length - digest.length - 1;
  return `${member.prefix}${name.replace(/[^A-Za-z0-9_-]/g, "_").slice(0, room)}_${digest}`;
}

/** Whose name it is, and what to do to know the member's own name. */
export type ResolvedName =
  | { readonly kind: "name"; readonly naming: Naming; readonly name: string }
  | { readonly kind: "connect"; readonly naming: Naming }
  /** The member's own name is the one whose `outerName` is this: it must be looked up in its list. */
  | { readonly kind: "shortened"; readonly naming: Naming };

/** The member and the name behind a name of the aggregated route; undefined if no member has its prefix. */
export function innerName(namings: readonly Naming[], outer: string): ResolvedName | undefined {
  const naming = namings.find(({ member }) => outer.startsWith(member.prefix));
  if (naming === undefined) return undefined;
  const name = outer.slice(naming.member.prefix.length);
  if (naming.transparent) return { kind: "name", naming, name };
  if (name === connectName) return { kind: "connect", naming };
  return shortened.test(name) ? { kind: "shortened", naming } : { kind: "name", naming, name };
}

/** The name of the tool that connects a member. */
export function connectToolName({ member }: Naming): string {
  return member.prefix + connectName;
}
