import type { Problem } from "../config/problem.ts";

/** A refusal of the admin API, as it is told. */
export class AdminError extends Error {
  readonly status: 400 | 401 | 403 | 404 | 409 | 412 | 415 | 422;
  readonly code: string;
  readonly problems: readonly Problem[] | undefined;
  /** What to set by hand. */
  readonly remedy: string | undefined;

  constructor(
    status: AdminError["status"],
    code: string,
    message: string,
    more: { problems?: readonly Problem[]; remedy?: string } = {},
  ) {
    super(message);
    this.name = "AdminError";
    this.status = status;
    this.code = code;
    this.problems = more.problems;
    this.remedy = more.remedy;
  }
}
