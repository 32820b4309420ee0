import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv, type ValidateFunction } from "ajv";

/** Schemas of Kubernetes objects, with where they are from; `$ref` finds `definitions`. `schemas/write-schemas.ts` writes such files. */
interface SchemaFile {
  readonly source: string;
  readonly license: string;
  readonly definitions?: Record<string, Schema>;
  /** By `GROUP/VERSION/KIND`, or `VERSION/KIND` in the core group. */
  readonly schemas: Record<string, Schema>;
}
type Schema = Record<string, unknown>;

const text = { type: "string" };
const texts = { type: "object", additionalProperties: text };
/** What a custom resource's own schema leaves to the API server, as far as manifests use it. */
const everyObject = {
  apiVersion: text,
  kind: text,
  metadata: {
    type: "object",
    required: ["name"],
    properties: { name: text, namespace: text, labels: texts, annotations: texts },
  },
};

// Go's regular expressions, which allow escapes that JavaScript's Unicode mode does not.
const ajv = new Ajv({ strict: false, validateFormats: false, unicodeRegExp: false, allErrors: true });
const files: readonly SchemaFile[] = globSync(join(import.meta.dirname, "schemas/*.json")).map((file) =>
  JSON.parse(readFileSync(file, "utf8")),
);
const compiled = new Map<string, ValidateFunction>();

/**
 * Validates an object against the vendored schema of its kind: a field that the schema does not have is an error, which the API
 * server would drop (or reject, with `--validate=strict`). Rules in CEL are not evaluated.
 * @returns the errors; `undefined` if no file has the kind
 */
export function vendoredErrors(object: { readonly apiVersion: string; readonly kind: string }) {
  const name = `${object.apiVersion}/${object.kind}`;
  const file = files.find(({ schemas }) => name in schemas);
  if (file === undefined) return undefined;
  let validate = compiled.get(name);
  if (validate === undefined) {
    const schema = file.schemas[name];
    const whole = { ...schema, properties: { ...Object(schema?.properties), ...missingIn(schema) } };
    validate = ajv.compile({ ...closed(whole), definitions: closedEach(file.definitions ?? {}) });
    compiled.set(name, validate);
  }
  return validate(object) ? [] : (validate.errors ?? []);
}

/** `metadata` of a CustomResourceDefinition is `{type: object}`: replaced. */
function missingIn(schema: Schema | undefined) {
  const { metadata } = Object(schema?.properties);
  return metadata === undefined || Object.keys(metadata).length === 1 ? everyObject : {};
}

/**
 * The schema without room for unknown fields. Only `properties`, `items` and `additionalProperties` define fields; below `anyOf` and
 * the like they restrict those (Kubernetes: "structural schema"). `x-kubernetes-preserve-unknown-fields` keeps the room.
 */
function closed(schema: unknown): Schema {
  const one = { ...Object(schema) };
  if (one.properties) one.properties = closedEach(one.properties);
  if (one.items) one.items = closed(one.items);
  if (typeof one.additionalProperties === "object")
    one.additionalProperties = closed(one.additionalProperties);
  if (
    one.properties &&
    one.additionalProperties === undefined &&
    !one["x-kubernetes-preserve-unknown-fields"]
  )
    one.additionalProperties = false;
  return one;
}
const closedEach = (schemas: Record<string, unknown>) =>
  Object.fromEntries(Object.entries(schemas).map(([name, schema]) => [name, closed(schema)]));
