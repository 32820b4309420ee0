import { stringify } from "yaml";
import type { Json } from "./json.ts";

/** YAML that Envoy reads as meant: its parser follows YAML 1.1, to which a bare `y` or `on` is a boolean, so every string is quoted. */
export function renderYaml(value: Json): string {
  return stringify(value, {
    aliasDuplicateObjects: false,
    defaultKeyType: "PLAIN",
    defaultStringType: "QUOTE_DOUBLE",
    version: "1.1",
  });
}
