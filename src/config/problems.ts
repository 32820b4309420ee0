/** A problem of the routes file: its position, what is wrong, and what to write instead. */
export interface Problem {
  /** An error rejects the file; a warning does not. */
  readonly severity: "error" | "warning";
  readonly file: string;
  /** Starts at 1. */
  readonly line: number;
  readonly column: number;
  /** Path of the key: `routes[2].mcp.server.path`; empty for the file as a whole. */
  readonly path: string;
  readonly message: string;
  readonly fix: string;
}

/** `file:line:column: severity: path: message`, and the fix on the next line; editors and CI systems can parse it. */
export function formatProblem(problem: Problem): string {
  const position = `${problem.file}:${problem.line}:${problem.column}`;
  const path = problem.path === "" ? "" : `${problem.path}: `;
  return `${position}: ${problem.severity}: ${path}${problem.message}\n    fix: ${problem.fix}`;
}

/** The routes file cannot be used; the message lists every problem with its position and fix. */
export class InvalidConfig extends Error {
  readonly code = "invalid_config";
  readonly problems: readonly Problem[];

  constructor(problems: readonly Problem[]) {
    super(problems.map(formatProblem).join("\n"));
    this.name = "InvalidConfig";
    this.problems = problems;
  }
}

/** Formats text as a sentence: initial capital, and a full stop unless it ends with another mark. */
export function sentence(text: string): string {
  const trimmed = text.trim();
  return `${trimmed.charAt(0).toUpperCase()}${trimmed.slice(1)}${/[.!?]$/.test(trimmed) ? "" : "."}`;
}
