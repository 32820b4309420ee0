import { inject } from "vitest";
import type { E2e, E2eOptions } from "../../../support/e2e.ts";
import { createTestDatabase } from "../../../support/postgres.ts";
import { startTcpProxy } from "../../../support/tcp-proxy.ts";
import type { FragileStack } from "./failure-behavior.ts";

/** A stack whose connection to the database can be interrupted. */
export async function startFragile(
  start: (options: E2eOptions) => Promise<E2e>,
  options: E2eOptions = {},
): Promise<FragileStack & { close(): Promise<void> }> {
  const database = await createTestDatabase();
  const { hostname, port } = new URL(inject("postgresUrl"));
  const wire = await startTcpProxy({ host: hostname, port: Number(port) });
  const url = new URL(database.url);
  url.port = String(wire.port);
  const closeRest = async () => {
    await wire.close();
    await database.close();
  };
  const stack = await start({
    ...options,
    env: { ...options.env, DATABASE_URL: url.href },
  }).catch(async (error: unknown) => {
    await closeRest();
    throw error;
  });
  return {
    stack,
    wire,
    async close() {
      await stack.close();
      await closeRest();
    },
  };
}
