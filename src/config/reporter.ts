import type { z } from "zod";
import type { Problem } from "./problems.ts";
import type { ConfigPath, ConfigSource } from "./yaml-source.ts";

/** Collects problems, so that all of them are reported at once. */
export interface Reporter {
  /** Rejects the file. `at`: whether the key or its value is wrong. */
  error(path: ConfigPath, message: string, fix: string, at?: "key" | "value"): void;
  /** The file is used nevertheless. */
  warn(path: ConfigPath, message: string, fix: string, at?: "key" | "value"): void;
  /** From now on, reports problems at or under `to` at `from`, the key in the file. */
  moved(from: ConfigPath, to: ConfigPath): void;
  /** In file order. */
  problems(): readonly Problem[];
}

/** A reporter for one file. */
export function createReporter(file: string, source: ConfigSource): Reporter {
  const problems: Problem[] = [...source.syntaxProblems];
  const moves: { from: ConfigPath; to: ConfigPath }[] = [];
  const origin = (path: ConfigPath): ConfigPath => {
    const move = moves.find(({ to }) => to.every((step, index) => path[index] === step));
    return move === undefined ? path : [...move.from, ...path.slice(move.to.length)];
  };
  const add = (
    severity: Problem["severity"],
    path: ConfigPath,
    message: string,
    fix: string,
    at: "key" | "value",
  ) => {
    const written = origin(path);
    problems.push({
      severity,
      file,
      ...source.position(written, at),
      path: pathText(written),
      message,
      fix,
    });
  };
  return {
    error: (path, message, fix, at = "value") => add("error", path, message, fix, at),
    warn: (path, message, fix, at = "value") => add("warning", path, message, fix, at),
    moved: (from, to) => {
      moves.push({ from, to });
    },
    problems: () => problems.toSorted((a, b) => a.line - b.line || a.column - b.column),
  };
}

function pathText(path: ConfigPath): string {
  return path
    .map((step, index) => (typeof step === "number" ? `[${step}]` : index === 0 ? step : `.${step}`))
    .join("");
}

/** The closest of `words` to `word`, if it is close enough for a typo (edit distance at most a third of the length). */
export function closest(word: string, words: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.ceil(word.length / 3)) + 1;
  for (const candidate of words) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance && distance < candidate.length) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const replace = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min((previous[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, replace));
    }
    previous = row;
  }
  return previous[b.length] ?? 0;
}

/** Checks the value at `path` and reports every issue with its fix. @returns undefined if there is any */
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
  for (const issue of result.error.issues.flatMap(faults)) {
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

/** The faults of the alternative that fits but for what is in it, instead of the message that none fits. */
function faults(issue: z.core.$ZodIssue): readonly z.core.$ZodIssue[] {
  if (issue.code !== "invalid_union") return [issue];
  const closest = issue.errors.find((option) => option.every(({ path }) => path.length > 0));
  return (closest ?? [issue]).map((one) =>
    one === issue ? issue : { ...one, path: [...issue.path, ...one.path] },
  );
}

function missing(issue: z.core.$ZodIssue): boolean {
  if (issue.code === "invalid_union") return issue.errors.some((option) => option.some(missing));
  return issue.code === "invalid_type" && issue.message.endsWith("received undefined");
}

function message(issue: z.core.$ZodIssue): string {
  const last = issue.path.at(-1) ?? "the file";
  const key = typeof last === "number" ? "the entry" : String(last);
  if (missing(issue)) return `${key} is missing`;
  if (issue.code === "invalid_type") {
    return `${key} must be ${article(issue.expected)}, not ${article(issue.message.split("received ")[1] ?? "this")}`;
  }
  if (issue.code === "invalid_union") return `${key} has a value of the wrong type`;
  if (issue.code === "invalid_value") return `${key} has an unknown value`;
  if (issue.code === "too_small")
    return issue.origin === "number" ? `${key} is too small` : `${key} is empty`;
  if (issue.code === "too_big") {
    if (issue.origin === "array") return `${key} has too many entries`;
    return issue.origin === "number" ? `${key} is too large` : `${key} is too long`;
  }
  return issue.message;
}

function fix(issue: z.core.$ZodIssue): string {
  if (issue.code === "custom" && typeof issue.params?.fix === "string") return issue.params.fix;
  if (missing(issue)) return `add ${String(issue.path.at(-1) ?? "it")}`;
  if (issue.code === "invalid_type") return `write ${article(issue.expected)} here`;
  if (issue.code === "invalid_value") return `write one of: ${issue.values.map(String).join(", ")}`;
  if (issue.code === "too_small") {
    if (issue.origin === "array") return "write at least one entry";
    return issue.origin === "number"
      ? `write at least ${issue.minimum}`
      : `give it a value, or ${typeof issue.path.at(-1) === "number" ? "remove it" : "leave the key out"}`;
  }
  if (issue.code === "too_big") return `write at most ${issue.maximum}`;
  if (issue.code === "invalid_format") return "use letters, digits, dots, dashes and underscores";
  if (issue.code === "invalid_union") {
    const options = issue.errors.flatMap(([first]) => (first === undefined ? [] : [alternative(first)]));
    return `write ${[...new Set(options)].join(" or ")}`;
  }
  return "correct the value";
}

function alternative(issue: z.core.$ZodIssue): string {
  if (issue.code === "invalid_value") return issue.values.map((value) => JSON.stringify(value)).join(" or ");
  if (issue.code === "invalid_format") return article(issue.format);
  return issue.code === "invalid_type" ? article(issue.expected) : "a valid value";
}

function article(kind: string): string {
  const word =
    {
      record: "mapping",
      object: "mapping",
      array: "list",
      int: "whole number",
      null: "empty value",
      ipv4: "IPv4 address",
      ipv6: "IPv6 address",
    }[kind] ?? kind;
  return /^[aeio]/i.test(word) ? `an ${word}` : `a ${word}`;
}
