import type { PolicyCaller } from "../model/subject.ts";

/**
 * Values of the claim that `claim/PATH` names, as strings; empty where there are none. A claim whose own name has
 * slashes (`https://example.com/role`) is found before slashes descend. The caller's own `sub`, `email`, `name` and
 * `groups` stand in where the provider's claims lack them.
 */
export function readClaim(caller: PolicyCaller, path: string): readonly string[] {
  return claimValues(findClaim(caller, path));
}

/** The claim as it stands there: the same object until the person's record changes. */
export function findClaim(caller: PolicyCaller, path: string): unknown {
  return descend(caller.claims, path) ?? standIn(caller, path);
}

function descend(within: unknown, path: string): unknown {
  if (typeof within !== "object" || within === null || Array.isArray(within)) return undefined;
  // Own members only: `claim/constructor` must not find what every object has.
  const own = (name: string): unknown => Object.getOwnPropertyDescriptor(within, name)?.value;
  const whole = own(path);
  if (whole !== undefined) return whole;
  for (let slash = path.indexOf("/"); slash >= 0; slash = path.indexOf("/", slash + 1)) {
    const found = descend(own(path.slice(0, slash)), path.slice(slash + 1));
    if (found !== undefined) return found;
  }
  return undefined;
}

function standIn(caller: PolicyCaller, path: string): unknown {
  switch (path) {
    case "sub":
      return caller.userId;
    case "email":
      return caller.email;
    case "name":
      return caller.name;
    case "groups":
      return caller.groups;
    default:
      return undefined;
  }
}

/** What of a claim can be compared. */
export function claimValues(value: unknown): readonly string[] {
  if (Array.isArray(value)) return value.flatMap((member) => scalar(member));
  return scalar(value);
}

function scalar(value: unknown): readonly string[] {
  if (typeof value === "string") return value === "" ? [] : [value];
  if (typeof value === "number" || typeof value === "boolean") return [String(value)];
  return [];
}
