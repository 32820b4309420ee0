/** One thing wrong with the routes file (F1.5): where it stands, what it is, and what to write instead. */
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
