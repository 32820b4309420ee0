import type {
  JsonSchemaValidator,
  jsonSchemaValidator,
  StandardSchemaV1,
} from "@modelcontextprotocol/server";

/** A JSON object. */
export type JsonObject = { readonly [name: string]: unknown };

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function arrayOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

export function stringOf(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

/** Accepts every JSON object as it is: members that neither we nor the SDK know of pass through. */
export const anyObject: StandardSchemaV1<JsonObject, { [name: string]: unknown }> = {
  "~standard": {
    version: 1,
    vendor: "envoy-mcp-auth",
    validate: (value) =>
      isObject(value) ? { value: { ...value } } : { issues: [{ message: "not an object" }] },
  },
};

/**
 * A validator of JSON schemas that accepts everything: results pass through as they are, and the SDK would build one for each call.
 * The schema says what `T` is, so nothing but the caller can know it.
 */
export const noValidation: jsonSchemaValidator = {
  getValidator<T>(): JsonSchemaValidator<T> {
    return (data) => ({ valid: true, data: data as T, errorMessage: undefined });
  },
};
