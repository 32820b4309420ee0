import type { PostgresPool } from "kysely";
import type { Pool } from "pg";

/**
 * A pool whose connections are lent for at most `timeoutMs`, then destroyed: a query on a black-holed connection fails in time,
 * a COMMIT can no longer follow an operation that its caller has already given up, and nobody inherits a stuck connection.
 */
export function boundedPool(pool: Pool, timeoutMs: number): PostgresPool {
  return {
    options: pool.options,
    end: () => pool.end(),
    async connect() {
      const client = await pool.connect();
      // The pool sets `release` anew every time it lends the client.
      const release = client.release;
      let expired = false;
      const timer = setTimeout(() => {
        expired = true;
        release(new Error("connection held too long"));
      }, timeoutMs);
      timer.unref();
      client.release = (destroy) => {
        clearTimeout(timer);
        if (!expired) release(destroy);
      };
      return client;
    },
  };
}
