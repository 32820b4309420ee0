import { randomBytes } from "node:crypto";
import pg from "pg";
import type { Table } from "../report/report.ts";
import { startWorld } from "../world/world.ts";
import { runCommand } from "./commands.ts";

/** `rotate-keys` in a database of its own, all rows of which can be decrypted. */
export async function measureRotation(options: {
  readonly serverUrl: string;
  readonly upstream: string;
  readonly connections: number;
  readonly progress: (line: string) => void;
}): Promise<Table> {
  const { serverUrl, upstream, progress } = options;
  const url = new URL(serverUrl);
  url.pathname = "/rotation";
  const client = new pg.Client({ connectionString: serverUrl });
  await client.connect();
  await client.query("create database rotation");
  const world = await startWorld(upstream, { postgres: { url: url.href } });
  try {
    const tokenEndpoint = `${upstream}/token`;
    for (let made = 0; made < options.connections; made += 10_000) {
      progress(`rotation: ${made.toLocaleString("en")} connections`);
      const count = Math.min(10_000, options.connections - made);
      await world.connections(count, { routes: 10, tokenEndpoint });
    }
    const loopback = "127.0.0.1:0";
    const file = await world.routesFile("rotation", {
      routes: 10,
      upstream,
      tokenEndpoint,
      listen: { grpc: loopback, http: loopback, admin: loopback },
      more: {
        encryption: {
          keys: [
            { kid: "newer", env: "NEWER_KEY" },
            { kid: "bench", env: "BENCH_KEY" },
          ],
        },
      },
    });
    progress("rotation: rotate-keys");
    const newer = { NEWER_KEY: randomBytes(32).toString("base64url") };
    const run = await runCommand(world, ["rotate-keys", "--config", file], newer);
    const rows = Number(/(\d+) rows re-encrypted/.exec(run.output)?.[1] ?? Number.NaN);
    return {
      title: "Key rotation",
      note: `\`rotate-keys\` on ${options.connections.toLocaleString("en")} connections and as many people, all of which can be decrypted.`,
      lines: [
        {
          name: "`rotate-keys`",
          figures: {
            ms: run.ms,
            "rows re-encrypted": rows,
            "rows/s": rows / (run.ms / 1000),
            outcome: run.code === 0 ? "" : `exit ${run.code}: ${run.error.slice(0, 100)}`,
          },
        },
      ],
    };
  } finally {
    await world.close();
    await client.query("drop database rotation with (force)");
    await client.end();
  }
}
