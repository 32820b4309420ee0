import { z } from "zod";
import { literalFields } from "../config/field-types.ts";
import { routeSchema } from "../config/route-schema.ts";
import { trimEntry } from "../config/trim-entry.ts";

/** A JSON object whose members are not validated yet. */
export type JsonObject = { readonly [key: string]: unknown };

/** Whether a value is a JSON object, neither null nor an array. */
export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Applies a merge patch (RFC 7396): null removes a member, objects are merged, other values replace. */
export function mergePatch(target: JsonObject, patch: JsonObject): JsonObject {
  const merged = new Map(Object.entries(target));
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) merged.delete(key);
    else if (isJsonObject(value)) {
      const old = merged.get(key);
      merged.set(key, mergePatch(isJsonObject(old) ? old : {}, value));
    } else merged.set(key, value);
  }
  // fromEntries defines `__proto__` as an ordinary key.
  return Object.fromEntries(merged);
}

let known: ReturnType<typeof secretPaths> | undefined;
/** Derived from the schema on first use: it takes a tenth of the startup time. */
function paths(): ReturnType<typeof secretPaths> {
  known ??= secretPaths();
  return known;
}
/** Keys that replace secrets in responses. Clients may send them back; they are ignored. */
const secretMarker = /^has_[a-z_]+$/;

/** The settings of a stored route with every secret replaced by `has_NAME`: true, or false for one that was cleared. */
export function withoutSecrets(entry: JsonObject): JsonObject {
  return paths().reduce(hide, entry);
}

/** The entry of a new route, trimmed: null means absent, as in a change. */
export function newEntry(input: JsonObject): JsonObject {
  return trimEntry(mergePatch({}, withoutMarkers(input)));
}

/**
 * Applies a change to a stored entry (RFC 7396), trimmed. An omitted secret is kept; an empty one is cleared, and the route is not served
 * without it; null removes it. Setting another upstream authentication method removes the previous one with its secrets.
 */
export function changedEntry(stored: JsonObject, change: JsonObject): JsonObject {
  const patch = withoutMarkers(trimEntry(change));
  return mergePatch(withoutOtherAuth(stored, patch), patch);
}

/** Paths of the secrets, and of the lists of headers, that are empty in a new entry: they would protect, or send, nothing. */
export function emptySettings(entry: JsonObject): readonly string[] {
  const lists = [["mcp", "server", "request_headers", "pass"]];
  return [...paths(), ...lists].flatMap((path) => emptyAt(entry, path, []));
}

function emptyAt(value: unknown, path: readonly string[], at: readonly string[]): string[] {
  const [step, ...rest] = path;
  if (step === undefined)
    return value === "" || (Array.isArray(value) && value.length === 0) ? [at.join(".")] : [];
  if (!isJsonObject(value)) return [];
  if (step !== "*") return emptyAt(Object.hasOwn(value, step) ? value[step] : undefined, rest, [...at, step]);
  const names = Object.keys(value);
  return names.length === 0
    ? [at.join(".")]
    : names.flatMap((name) => emptyAt(value[name], rest, [...at, name]));
}

/** Applies `change` to the object that holds the last step of `path`, if it exists. */
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
  // A record of secrets (`headers`): its names are not secret.
  if (path.at(-1) === "*") {
    return atHolder(entry, path.slice(0, -1), (holder, key) => {
      if (!(key in holder)) return holder;
      const record = holder[key];
      return {
        ...holder,
        [key]: {},
        [`has_${key}`]: isJsonObject(record)
          ? Object.keys(record)
              .filter((name) => record[name] !== "")
              .toSorted()
          : [],
      };
    });
  }
  return atHolder(entry, path, (holder, key) => {
    if (!(key in holder)) return holder;
    const { [key]: secret, ...rest } = holder;
    return { ...rest, [`has_${key}`]: secret !== "" };
  });
}

/** A response may be sent back as a change. Policies, headers, claims and parameters may have any name. */
function withoutMarkers(change: JsonObject): JsonObject {
  const kept = Object.entries(change).filter(([key]) => !secretMarker.test(key));
  return Object.fromEntries(
    kept.map(([key, value]) => {
      const opaque =
        key === "policy" ||
        key === "headers" ||
        key === "set" ||
        key === "authorization_url_params" ||
        key === "allowed_idp_claims" ||
        key === "jwt_claims_headers";
      return [key, isJsonObject(value) && !opaque ? withoutMarkers(value) : value];
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

/** The upstream authentication method that a change sets, if any. */
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

/** A JSON Schema (draft 2020-12), as plain data. */
export type JsonSchema = { readonly [key: string]: unknown };

/**
 * The input of `schema` as JSON Schema, for OpenAPI, the chart's values and editors. Secrets are `writeOnly`. Conditions that only
 * code can check are omitted, so it never rejects valid input.
 */
export function jsonSchemaOf(schema: z.ZodType): JsonSchema {
  const { $schema: _dialect, ...plain } = z.toJSONSchema(schema, {
    io: "input",
    unrepresentable: "any",
    override({ zodSchema, jsonSchema }) {
      const { def } = zodSchema._zod;
      // A preprocess step has no input schema; its output schema is close enough.
      if (def.type === "pipe" && def.in._zod.def.type === "transform" && def.out instanceof z.ZodType)
        Object.assign(jsonSchema, jsonSchemaOf(def.out));
      // A format of zod that validators do not know; the pattern is equivalent.
      if (jsonSchema.format === "starts_with") delete jsonSchema.format;
      // Nullable keys are optional.
      const { required, properties = {} } = jsonSchema;
      const needed = required?.filter((key) => !mayBeNull(properties[key]));
      if (needed?.length === 0) delete jsonSchema.required;
      else if (needed !== undefined) jsonSchema.required = needed;
      // `shorthand` (a field's meta): an alternative notation.
      const { shorthand, ...rest } = jsonSchema;
      if (shorthand === undefined) return;
      for (const key of Object.keys(jsonSchema)) delete jsonSchema[key];
      const short = shorthand === "one" ? rest.items : shorthand;
      jsonSchema.anyOf = [rest, ...(typeof short === "object" ? [Object(short)] : [])];
    },
  });
  return plain;
}

function mayBeNull(schema: unknown): boolean {
  const alternatives = typeof schema === "object" && schema !== null && "anyOf" in schema ? schema.anyOf : [];
  return Array.isArray(alternatives) && alternatives.some(({ type }) => type === "null");
}

/** Paths of the secrets in a route's entry; `*` is any key. Derived from the schema, so that new secrets are included. */
export function secretPaths(): readonly (readonly string[])[] {
  return secretsIn(jsonSchemaOf(routeSchema(literalFields())));
}

function secretsIn(schema: unknown): string[][] {
  if (!isSchema(schema)) return [];
  if (schema.writeOnly === true) return [[]];
  const named = Object.entries(isSchema(schema.properties) ? schema.properties : {});
  const below = [...named, ["*", schema.additionalProperties] as const].flatMap(([key, value]) =>
    secretsIn(value).map((path) => [key, ...path]),
  );
  const alternatives = [schema.anyOf, schema.oneOf, schema.allOf].filter(Array.isArray).flat();
  return [...below, ...alternatives.flatMap(secretsIn)];
}

function isSchema(value: unknown): value is JsonSchema {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
