import { z } from "zod";
import { literalFields } from "./fields.ts";
import { routeSchema } from "./route-schema.ts";

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
