import { z } from "zod";
import { availabilities } from "../config/labels.ts";
import { AdminError } from "./access.ts";
import { isJsonObject, type JsonObject } from "./route-settings.ts";

/** Other names of fields, for clients of other admin APIs, and where their values go. */
const aliases: Readonly<Record<string, readonly [string] | readonly [string, string]>> = {
  slug: ["id"],
  display_name: ["name"],
  icon_url: ["logo_url"],
  availability: ["labels", "availability"],
  model_intent: ["labels", "model_intent"],
  allow_in_plan_mode: ["labels", "allow_in_plan_mode"],
};

/** The aliases as input fields, for the OpenAPI document. */
export const aliasSchemas = {
  slug: z.string().optional().describe("Alias of id."),
  display_name: z.string().optional().describe("Alias of name."),
  icon_url: z.string().optional().describe("Alias of logo_url."),
  availability: z.enum(availabilities).optional().describe("The label availability."),
  model_intent: z.string().optional().describe("The label model_intent."),
  allow_in_plan_mode: z.boolean().optional().describe("The label allow_in_plan_mode."),
};

/**
 * Input with every alias under the name that the routes file knows.
 *
 * @throws AdminError 400 `conflicting_fields` if both names are given with different values; `invalid_route` for `transport`
 */
export function withoutAliases(input: JsonObject): JsonObject {
  if ("transport" in input)
    throw new AdminError(400, "invalid_route", "the route is invalid", {
      problems: [
        {
          ...{ severity: "error", file: "", line: 1, column: 1, path: "transport" },
          message: "the transport is detected: streamable HTTP, or the older HTTP+SSE",
          fix: "remove transport",
        },
      ],
    });
  let renamed = Object.fromEntries(Object.entries(input).filter(([key]) => !Object.hasOwn(aliases, key)));
  for (const [alias, [key, label]] of Object.entries(aliases)) {
    if (!Object.hasOwn(input, alias)) continue;
    const value = input[alias];
    const section = label === undefined ? renamed : renamed[key];
    const name = label ?? key;
    const other = isJsonObject(section) && Object.hasOwn(section, name) ? section[name] : undefined;
    if (other !== undefined && inWords(other) !== inWords(value))
      throw new AdminError(
        400,
        "conflicting_fields",
        `${alias} and ${label === undefined ? key : `${key}.${label}`} are one field, and differ: send one of them`,
      );
    renamed =
      label === undefined
        ? { ...renamed, [key]: value }
        : { ...renamed, [key]: { ...(isJsonObject(section) ? section : {}), [label]: value } };
  }
  return renamed;
}

function inWords(value: unknown): string {
  return typeof value === "string" ? value.trim() : JSON.stringify(value);
}
