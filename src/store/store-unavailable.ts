/** The database did not answer, or not in time. Nobody may be let through on it; the caller may try again. */
export class StoreUnavailable extends Error {
  readonly code = "store_unavailable";

  constructor(operation: string, cause: unknown) {
    super(`the store did not answer (${operation})`, { cause });
    this.name = "StoreUnavailable";
  }
}
