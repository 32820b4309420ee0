import type { z } from "zod";
import { closest } from "./closest.ts";
import type { ConfigPath } from "./config-source.ts";
import type { Reporter } from "./reporter.ts";

/** Checks `value`, which stands at `path`, and reports every issue with its fix. `undefined` when there was one. */
export function reportIssues<T extends z.ZodType>(
  schema: T,
  value: unknown,
  path: ConfigPath,
  reporter: Reporter,
): z.output<T> | undefined {
  const knownKeys = new Map<string, string[]>();
  const result = schema.safeParse(value, {
    error: (issue) => {
      if (issue.code === "unrecognized_keys") {
        const shape = issue.inst?._zod.def;
        const keys = shape !== undefined && "shape" in shape ? Object.keys(shape.shape as object) : [];
        knownKeys.set(JSON.stringify(issue.path ?? []), keys);
      }
      return undefined;
    },
  });
  if (result.success) return result.data;
  for (const issue of result.error.issues) {
    const at = [...path, ...issue.path.map((step) => (typeof step === "symbol" ? String(step) : step))];
    if (issue.code === "unrecognized_keys") {
      const known = knownKeys.get(JSON.stringify(issue.path)) ?? [];
      for (const key of issue.keys) {
        const near = closest(key, known);
        reporter.error(
          [...at, key],
          `unknown key ${JSON.stringify(key)}`,
          near === undefined ? `known here: ${known.toSorted().join(", ")}` : `did you mean ${near}?`,
          "key",
        );
      }
    } else reporter.error(at, message(issue), fix(issue), missing(issue) ? "key" : "value");
  }
  return undefined;
}

function missing(issue: z.core.$ZodIssue): boolean {
  return issue.code === "invalid_type" && issue.message.endsWith("received undefined");
}

function message(issue: z.core.$ZodIssue): string {
  const key = String(issue.path.at(-1) ?? "the file");
  if (missing(issue)) return `${key} is missing`;
  if (issue.code === "invalid_type") {
    return `${key} must be ${article(issue.expected)}, not ${article(issue.message.split("received ")[1] ?? "this")}`;
  }
  if (issue.code === "invalid_union") return `${key} has a value of the wrong type`;
  if (issue.code === "invalid_value") return `${key} has a value we do not know`;
  if (issue.code === "too_small")
    return issue.origin === "number" ? `${key} is too small` : `${key} is empty`;
  if (issue.code === "too_big") {
    if (issue.origin === "array") return `${key} has too many entries`;
    return issue.origin === "number" ? `${key} is too big` : `${key} is too long`;
  }
  return issue.message;
}

function fix(issue: z.core.$ZodIssue): string {
  if (issue.code === "custom" && typeof issue.params?.fix === "string") return issue.params.fix;
  if (missing(issue)) return `add ${String(issue.path.at(-1) ?? "it")}`;
  if (issue.code === "invalid_type") return `write ${article(issue.expected)} here`;
  if (issue.code === "invalid_value") return `write one of: ${issue.values.map(String).join(", ")}`;
  if (issue.code === "too_small") {
    return issue.origin === "number"
      ? `write at least ${issue.minimum}`
      : "give it a value, or leave the key out";
  }
  if (issue.code === "too_big") return `write at most ${issue.maximum}`;
  if (issue.code === "invalid_format") return "use letters, digits, dots, dashes and underscores";
  if (issue.code === "invalid_union") return "write a number or a string";
  return "correct the value";
}

function article(kind: string): string {
  const word =
    { record: "mapping", object: "mapping", array: "list", int: "whole number", null: "empty value" }[kind] ??
    kind;
  return /^[aeio]/.test(word) ? `an ${word}` : `a ${word}`;
}
