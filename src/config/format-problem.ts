import type { Problem } from "./problem.ts";

/** `file:line:column: severity: path: message`, and the fix on a line of its own; editors and CI systems find the place. */
export function formatProblem(problem: Problem): string {
  const place = `${problem.file}:${problem.line}:${problem.column}`;
  const path = problem.path === "" ? "" : `${problem.path}: `;
  return `${place}: ${problem.severity}: ${path}${problem.message}\n    fix: ${problem.fix}`;
}
