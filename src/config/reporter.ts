import type { ConfigPath, ConfigSource } from "./config-source.ts";
import type { Problem } from "./problem.ts";

/** Collects problems, so that all of them are told at once (F1.5). */
export interface Reporter {
  /** The file is refused. `at` says whether the key or its value is at fault. */
  error(path: ConfigPath, message: string, fix: string, at?: "key" | "value"): void;
  /** The file is used all the same. */
  warn(path: ConfigPath, message: string, fix: string, at?: "key" | "value"): void;
  /** From now on, problems at or under `to` are shown where the file has them: at `from`. */
  moved(from: ConfigPath, to: ConfigPath): void;
  /** In the order of the file. */
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
    const place = origin(path);
    problems.push({
      severity,
      file,
      ...source.position(place, at),
      path: pathText(place),
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
