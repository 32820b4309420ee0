import { secretPaths } from "../config/json-schema.ts";

/** A JSON object as it came over the wire. */
export type JsonObject = { readonly [key: string]: unknown };

/** Whether a value is one: neither null nor a list. */
export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** RFC 7396: what `patch` names is set, merged where both are objects, removed where it is null; all else stays. */
export function mergePatch(target: JsonObject, patch: JsonObject): JsonObject {
  const merged = new Map(Object.entries(target));
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) merged.delete(key);
    else if (isJsonObject(value)) {
      const old = merged.get(key);
      merged.set(key, mergePatch(isJsonObject(old) ? old : {}, value));
    } else merged.set(key, value);
  }
  // fromEntries defines `__proto__` as a key like any other.
  return Object.fromEntries(merged);
}

let known: ReturnType<typeof secretPaths> | undefined;
/** Read off the schema once it is needed, which takes a tenth of a start. */
function paths(): ReturnType<typeof secretPaths> {
  known ??= secretPaths();
  return known;
}
/** What the answers say of a secret, and what may be sent back unread. */
const told = /^has_[a-z_]+$/;

/** The settings of a stored route as they may be shown: every secret is replaced by `has_NAME: true`. */
export function withoutSecrets(entry: JsonObject): JsonObject {
  return paths().reduce(hide, entry);
}

/**
 * The entry that a change makes of what is stored: RFC 7396, so that an omitted secret stays; an empty one is cleared;
 * and naming another way to authenticate to the upstream removes the old one with its secrets.
 */
export function changedEntry(stored: JsonObject, change: JsonObject): JsonObject {
  const patch = withoutTold(change);
  const merged = mergePatch(withoutOtherAuth(stored, patch), patch);
  return paths().reduce(dropEmpty, merged);
}

/** Applies `change` to the object that holds the last step of `path`, wherever it exists. */
function atHolder(
  object: JsonObject,
  path: readonly string[],
  change: (holder: JsonObject, key: string) => JsonObject,
): JsonObject {
  const [step, ...rest] = path;
  if (step === undefined) return object;
  if (rest.length === 0) return change(object, step);
  const below = object[step];
  return isJsonObject(below) ? { ...object, [step]: atHolder(below, rest, change) } : object;
}

function hide(entry: JsonObject, path: readonly string[]): JsonObject {
  // A record of secrets (`headers`): its names may be shown.
  if (path.at(-1) === "*") {
    return atHolder(entry, path.slice(0, -1), (holder, key) => {
      if (!(key in holder)) return holder;
      const record = holder[key];
      return {
        ...holder,
        [key]: {},
        [`has_${key}`]: isJsonObject(record) ? Object.keys(record).toSorted() : [],
      };
    });
  }
  return atHolder(entry, path, (holder, key) => {
    if (!(key in holder)) return holder;
    const { [key]: _secret, ...rest } = holder;
    return { ...rest, [`has_${key}`]: true };
  });
}

function dropEmpty(entry: JsonObject, path: readonly string[]): JsonObject {
  if (path.at(-1) === "*") {
    return atHolder(entry, path.slice(0, -1), (holder, key) => {
      const record = holder[key];
      if (!isJsonObject(record)) return holder;
      return {
        ...holder,
        [key]: Object.fromEntries(Object.entries(record).filter(([, value]) => value !== "")),
      };
    });
  }
  return atHolder(entry, path, (holder, key) => {
    if (holder[key] !== "") return holder;
    const { [key]: _cleared, ...rest } = holder;
    return rest;
  });
}

/** Answers may be sent back as they came. A policy, a claim or a parameter may be called anything. */
function withoutTold(change: JsonObject): JsonObject {
  const kept = Object.entries(change).filter(([key]) => !told.test(key));
  return Object.fromEntries(
    kept.map(([key, value]) => {
      const opaque =
        key === "policy" ||
        key === "headers" ||
        key === "set" ||
        key === "authorization_url_params" ||
        key === "allowed_idp_claims";
      return [key, isJsonObject(value) && !opaque ? withoutTold(value) : value];
    }),
  );
}

function withoutOtherAuth(stored: JsonObject, patch: JsonObject): JsonObject {
  const chosen = authOf(patch);
  if (chosen === undefined || !isJsonObject(stored.mcp)) return stored;
  const { upstream_oauth2, server, ...mcp } = stored.mcp;
  const old = isJsonObject(server) ? server : {};
  const { upstream_oauth2: oauth, upstream_auth: other, ...rest } = old;
  const keptOAuth = chosen === "oauth" && oauth !== undefined ? { upstream_oauth2: oauth } : {};
  const kind = isJsonObject(other) && chosen in other ? { [chosen]: other[chosen] } : undefined;
  return {
    ...stored,
    mcp: {
      ...mcp,
      ...(chosen === "oauth" && upstream_oauth2 !== undefined ? { upstream_oauth2 } : {}),
      server: { ...rest, ...keptOAuth, ...(kind === undefined ? {} : { upstream_auth: kind }) },
    },
  };
}

/** The way to authenticate that a change names, if it does. */
function authOf({ mcp }: JsonObject): string | undefined {
  if (!isJsonObject(mcp)) return undefined;
  if (isJsonObject(mcp.upstream_oauth2)) return "oauth";
  const server = isJsonObject(mcp.server) ? mcp.server : {};
  if (isJsonObject(server.upstream_oauth2)) return "oauth";
  if (server.upstream_auth === "none") return "none";
  return isJsonObject(server.upstream_auth)
    ? Object.entries(server.upstream_auth).find(([, value]) => value !== null)?.[0]
    : undefined;
}
