import { parseDocument, stringify } from "yaml";
import type { RouteFields } from "../../pages/admin/route.ts";
import { AdminError } from "../access.ts";
import { isJsonObject, type JsonObject, mergePatch } from "../route-settings.ts";
import { checkShape } from "../settings-shape.ts";

/** The fields of a stored entry. @param entry without secrets */
export function fieldsOf(entry: JsonObject, auth: string): RouteFields {
  const text = (name: string) => (typeof entry[name] === "string" ? entry[name] : "");
  return {
    id: text("id"),
    name: text("name"),
    from: text("from"),
    to: toText(entry.to),
    auth,
    enabled: entry.enabled !== false,
    settings: stringify(entry),
  };
}

export function enteredFields(form: URLSearchParams): RouteFields {
  const text = (name: string) => (form.get(name) ?? "").trim();
  return {
    ...{ id: text("id"), name: text("name"), from: text("from"), to: text("to"), auth: text("auth") },
    enabled: form.get("enabled") === "yes",
    settings: (form.get("settings") ?? "").replaceAll("\r\n", "\n"),
  };
}

/** The input of the admin API for a new route: the settings, and the fields, which take precedence. @throws AdminError */
export function newRoute(entered: RouteFields): JsonObject {
  const { id, name, from, to, auth, enabled } = entered;
  const fields = {
    ...(id !== "" && { id }),
    ...(name !== "" && { name }),
    ...(from !== "" && { from }),
    ...(to !== "" && { to: toValue(to) }),
    ...(!enabled && { enabled: false }),
  };
  const settings = mergePatch({ mcp: { server: {} } }, parsed(entered.settings));
  return mergePatch(settings, mergePatch(fields, authPatch(auth)));
}

/**
 * The merge patch (RFC 7396) from what the form showed to what was entered. A changed field takes precedence over the settings.
 * @throws AdminError
 */
export function changeOf(shown: JsonObject, auth: string, entered: RouteFields): JsonObject {
  const before = fieldsOf(shown, auth);
  // Without any settings, nothing is meant about them.
  const patch = entered.settings.trim() === "" ? {} : patchBetween(shown, parsed(entered.settings));
  const fields: Record<string, unknown> = {};
  if (entered.name !== before.name) fields.name = entered.name === "" ? null : entered.name;
  if (entered.from !== before.from) fields.from = entered.from;
  if (entered.to !== before.to) fields.to = entered.to === "" ? null : toValue(entered.to);
  if (entered.enabled !== before.enabled) fields.enabled = entered.enabled;
  const chosen = entered.auth === auth ? {} : authPatch(entered.auth);
  return joined(joined(patch, fields), chosen);
}

/** Like a merge patch, but keeps null, which removes. */
function joined(one: JsonObject, other: JsonObject): JsonObject {
  const result = new Map(Object.entries(one));
  for (const [key, value] of Object.entries(other)) {
    const before = result.get(key);
    result.set(key, isJsonObject(before) && isJsonObject(value) ? joined(before, value) : value);
  }
  return Object.fromEntries(result);
}

function patchBetween(before: JsonObject, after: JsonObject): JsonObject {
  const patch = new Map<string, unknown>();
  for (const key of Object.keys(before)) if (!Object.hasOwn(after, key)) patch.set(key, null);
  for (const [key, value] of Object.entries(after)) {
    const old = Object.hasOwn(before, key) ? before[key] : undefined;
    if (JSON.stringify(old) === JSON.stringify(value)) continue;
    patch.set(key, isJsonObject(old) && isJsonObject(value) ? patchBetween(old, value) : value);
  }
  return Object.fromEntries(patch);
}

/** The default is OAuth. */
function authPatch(auth: string): JsonObject {
  if (auth === "none") return { mcp: { server: { upstream_auth: { none: {} } } } };
  return auth === "oauth" ? { mcp: { server: { upstream_auth: null } } } : {};
}

/** @throws AdminError if it is not a mapping in YAML or JSON */
function parsed(settings: string): JsonObject {
  if (settings.trim() === "") return {};
  let message = "write a mapping: keys and values, as in the routes file";
  let value: unknown;
  try {
    // Warnings would be printed on stderr, with the line that they are about: it may have a secret.
    const document = parseDocument(settings, { logLevel: "error" });
    // An unquoted secret that begins with `!` is a tag, and would be lost.
    const [fault] = [...document.errors, ...document.warnings];
    if (fault !== undefined) throw fault;
    // Aliases could expand to many times the text.
    value = document.toJS({ maxAliasCount: 0 });
  } catch (error) {
    if (error instanceof RangeError) message = "they are nested too deeply";
    else if (error instanceof Error) message = error.message.split("\n")[0] ?? message;
  }
  if (isJsonObject(value)) {
    checkShape(value);
    return value;
  }
  throw new AdminError(400, "invalid_settings", `the settings are neither YAML nor JSON: ${message}`);
}

function toText(to: unknown): string {
  if (Array.isArray(to)) return to.join(" ");
  return typeof to === "string" ? to : "";
}

function toValue(to: string): string | string[] {
  const urls = to.split(/[\s,]+/).filter(Boolean);
  const [only] = urls;
  return urls.length === 1 && only !== undefined ? only : urls;
}
