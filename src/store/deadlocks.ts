import { StoreUnavailable } from "./errors.ts";

/** PostgreSQL's `deadlock_detected`: another transaction locked the same rows or tables in a different order. */
const deadlock = "40P01";
const maxAttempts = 5;

/** Repeats a transaction that Postgres has rolled back because of a deadlock. */
export async function retriedOnDeadlock<T>(transaction: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await transaction();
    } catch (error) {
      const { cause } = error instanceof StoreUnavailable ? error : { cause: undefined };
      const deadlocked = cause instanceof Error && "code" in cause && cause.code === deadlock;
      if (!deadlocked || attempt === maxAttempts) throw error;
    }
  }
}
