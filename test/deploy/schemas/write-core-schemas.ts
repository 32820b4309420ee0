import { readFileSync, writeFileSync } from "node:fs";

/*
 * Takes the schemas of some of Kubernetes' own kinds, and what they refer to, out of its OpenAPI document:
 *
 *   node test/deploy/schemas/write-core-schemas.ts OUT.json SOURCE LICENSE KIND,KIND,... swagger.json
 *
 * SOURCE names module and version, LICENSE its SPDX identifier; a KIND is GROUP/VERSION/KIND, or VERSION/KIND in the core group.
 */

type Schema = Record<string, unknown>;
interface Definition extends Schema {
  readonly properties?: Record<string, Schema>;
  readonly "x-kubernetes-group-version-kind"?: readonly { group: string; version: string; kind: string }[];
}

const kept = new Set("type properties required items additionalProperties enum format $ref".split(" "));
const either = { anyOf: [{ type: "integer" }, { type: "string" }] };
/** The document calls them strings. */
const numberOrText = ["util.intstr.IntOrString", "api.resource.Quantity"];

const [out, source, license, kinds, file] = process.argv.slice(2);
if (out === undefined || kinds === undefined || file === undefined)
  throw new Error("usage: write-core-schemas.ts OUT.json SOURCE LICENSE KIND,KIND swagger.json");
const all: Record<string, Definition> = JSON.parse(readFileSync(file, "utf8")).definitions;
const definitions: Record<string, unknown> = {};

function slim(schema: Schema): Schema {
  const entries = Object.entries(schema).filter(([keyword]) => kept.has(keyword));
  return Object.fromEntries(entries.map(([keyword, value]) => [keyword, slimOf(keyword, value)]));
}

function slimOf(keyword: string, value: unknown): unknown {
  if (keyword === "$ref") {
    const name = String(value).replace("#/definitions/", "");
    if (!(name in definitions)) {
      // Before its fields: some definitions contain themselves.
      definitions[name] = {};
      const isEither = numberOrText.some((one) => name.endsWith(one));
      definitions[name] = isEither ? either : slim(all[name] ?? {});
    }
    return value;
  }
  if (keyword === "properties")
    return Object.fromEntries(Object.entries(Object(value)).map(([name, one]) => [name, slim(Object(one))]));
  return keyword === "items" || keyword === "additionalProperties" ? slim(Object(value)) : value;
}

const schemas: Record<string, Schema> = {};
for (const kind of kinds.split(",")) {
  const found = Object.values(all).find((definition) =>
    definition["x-kubernetes-group-version-kind"]?.some(
      (one) => [one.group, one.version, one.kind].filter(Boolean).join("/") === kind,
    ),
  );
  if (found === undefined) throw new Error(`not found: ${kind}`);
  const { status: _status, ...properties } = found.properties ?? {};
  schemas[kind] = slim({ ...found, properties });
}
writeFileSync(out, `${JSON.stringify({ source, license, definitions, schemas })}\n`);
