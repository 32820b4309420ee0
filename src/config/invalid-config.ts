import { formatProblem } from "./format-problem.ts";
import type { Problem } from "./problem.ts";

/** The routes file cannot be used; the message lists every problem with its place and its fix. */
export class InvalidConfig extends Error {
  readonly code = "invalid_config";
  readonly problems: readonly Problem[];

  constructor(problems: readonly Problem[]) {
    super(problems.map(formatProblem).join("\n"));
    this.name = "InvalidConfig";
    this.problems = problems;
  }
}
