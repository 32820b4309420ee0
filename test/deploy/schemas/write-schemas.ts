import { readFileSync, writeFileSync } from "node:fs";
import { manifestsIn } from "../manifests.ts";

/*
 * Takes the schemas of some kinds out of CustomResourceDefinitions:
 *
 *   node test/deploy/schemas/write-schemas.ts OUT.json SOURCE LICENSE KIND,KIND,... CRDS.yaml...
 *
 * SOURCE names module, version and folder, LICENSE its SPDX identifier; a KIND is GROUP/VERSION/KIND. Descriptions, defaults and
 * rules written in CEL are left out.
 */

/** Keywords that say which objects are valid without the API server's help, and what to do with unknown fields. */
const kept = new Set([
  ..."type properties required items additionalProperties enum pattern format nullable minimum maximum exclusiveMinimum".split(
    " ",
  ),
  ..."exclusiveMaximum minLength maxLength minItems maxItems minProperties maxProperties multipleOf".split(
    " ",
  ),
  ..."anyOf oneOf allOf not x-kubernetes-preserve-unknown-fields x-kubernetes-int-or-string".split(" "),
]);

type Schema = Record<string, unknown>;

function slim(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(slim);
  if (typeof schema !== "object" || schema === null) return schema;
  return Object.fromEntries(
    Object.entries(withNumericLimits(Object(schema)))
      .filter(([keyword, value]) => kept.has(keyword) && !isGoPattern(keyword, value))
      .map(([keyword, value]) => [
        keyword,
        keyword === "properties" ? eachProperty(Object(value)) : slimOf(keyword, value),
      ]),
  );
}
/** JavaScript has no flags inside an expression. */
const isGoPattern = (keyword: string, value: unknown) =>
  keyword === "pattern" && String(value).includes("(?i)");
/** OpenAPI 3.0 writes an exclusive limit as a boolean beside the limit; JSON Schema since draft 6 as the limit. */
function withNumericLimits(schema: Schema): Schema {
  const { exclusiveMaximum, exclusiveMinimum, maximum, minimum, ...rest } = schema;
  return {
    ...rest,
    ...(exclusiveMaximum === true ? { exclusiveMaximum: maximum } : maximum !== undefined && { maximum }),
    ...(exclusiveMinimum === true ? { exclusiveMinimum: minimum } : minimum !== undefined && { minimum }),
  };
}
const slimOf = (keyword: string, value: unknown) => (keyword === "enum" ? value : slim(value));
const eachProperty = (properties: Schema) =>
  Object.fromEntries(Object.entries(properties).map(([name, schema]) => [name, slim(schema)]));

const [out, source, license, kinds, ...files] = process.argv.slice(2);
if (out === undefined || kinds === undefined || files.length === 0)
  throw new Error("usage: write-schemas.ts OUT.json SOURCE LICENSE KIND,KIND CRDS.yaml...");
const wanted = new Set(kinds.split(","));
const schemas: Record<string, unknown> = {};
for (const file of files) {
  // Charts wrap some definitions in lines of their template language.
  const yaml = readFileSync(file, "utf8").replace(/^\{\{.*\}\}\n/gm, "");
  for (const { kind: type, spec } of manifestsIn(yaml)) {
    if (type !== "CustomResourceDefinition") continue;
    const { group, names, versions } = Object(spec);
    for (const { name, schema } of versions) {
      const kind = `${group}/${name}/${names.kind}`;
      if (!wanted.delete(kind)) continue;
      const { status: _status, ...properties } = schema.openAPIV3Schema.properties;
      schemas[kind] = slim({ ...schema.openAPIV3Schema, properties });
    }
  }
}
if (wanted.size > 0) throw new Error(`not found: ${[...wanted].join(", ")}`);
writeFileSync(out, `${JSON.stringify({ source, license, schemas })}\n`);
