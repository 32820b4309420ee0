import { type JsonSchema, jsonSchemaOf } from "./json-schema-of.ts";
import { literalFields } from "./literal-fields.ts";
import { routeSchema } from "./route-schema.ts";

/** Where secrets stand in a route's entry; `*` is any key. Read off the schema, so that a new secret cannot be forgotten. */
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
