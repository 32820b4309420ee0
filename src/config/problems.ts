/** One thing wrong with the routes file: where it stands, what it is, and what to write instead. */
export interface Problem {
  /** An error refuses the file; a warning does not. */
  readonly severity: "error" | "warning";
  readonly file: string;
  /** From 1. */
  readonly line: number;
  readonly column: number;
  /** Path of the key: `routes[2].mcp.server.path`; empty for the file as a whole. */
  readonly path: string;
  readonly message: string;
  readonly fix: string;
}

/** `file:line:column: severity: path: message`, and the fix on a line of its own; editors and CI systems find the place. */
export function formatProblem(problem: Problem): string {
  const place = `${problem.file}:${problem.line}:${problem.column}`;
  const path = problem.path === "" ? "" : `${problem.path}: `;
  return `${place}: ${problem.severity}: ${path}${problem.message}\n    fix: ${problem.fix}`;
}

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

/** Text as a sentence of its own: a capital at its beginning, a full stop at its end unless another mark ends it. */
export function sentence(text: string): string {
  const trimmed = text.trim();
  return `${trimmed.charAt(0).toUpperCase()}${trimmed.slice(1)}${/[.!?]$/.test(trimmed) ? "" : "."}`;
}
