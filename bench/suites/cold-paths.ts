import { grpcConnection } from "../load/grpc-connection.ts";
import { percentile } from "../load/percentile.ts";
import { figure } from "../report/figure.ts";
import type { Line } from "../report/report.ts";
import { checkCall, type PreparedCheck, prepareCheck } from "../world/check-call.ts";
import { checkPath } from "../world/check-message.ts";
import { startSidecar } from "../world/start-sidecar.ts";
import type { Connection } from "../world/world.ts";
import type { Suite } from "./suite.ts";

const count = 150;

/** The cost of the first check: of a token, of a connection, after an upstream token expired, of a process. */
export const coldPaths: Suite = async ({ world, cores, upstream, rounds, progress }) => {
  const tokenEndpoint = `${upstream}/token`;
  const file = await world.routesFile("cold-paths", {
    routes: 1,
    upstream,
    tokenEndpoint,
    listen: { grpc: "127.0.0.1:0", http: "127.0.0.1:0", admin: "127.0.0.1:0" },
  });
  progress("start-up");
  const starts: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const started = await startSidecar({ world, file, core: cores.measured });
    starts.push(started.readyMs);
    await started.stop();
  }
  const sidecar = await startSidecar({ world, file, core: cores.measured });
  const open = await grpcConnection(sidecar.grpc, checkPath);
  /** One after the other, milliseconds each; and how many were refused. */
  async function oneByOne(checks: readonly PreparedCheck[]): Promise<{ times: number[]; errors: number }> {
    const times: number[] = [];
    let errors = 0;
    for (const check of checks) {
      const call = checkCall([open], () => check);
      await new Promise<void>((resolve) =>
        call((ok, ms) => {
          if (ok) times.push(ms);
          else errors++;
          resolve();
        }),
      );
    }
    return { times, errors };
  }
  try {
    progress("first checks");
    const warmUp = await world.connections(count, { routes: 1, tokenEndpoint });
    await oneByOne(warmUp.map(prepareCheck));
    const known = await world.connections(count, { routes: 1, tokenEndpoint });
    const firstOfConnection = await oneByOne(known.map(prepareCheck));
    const again: Connection[] = [];
    for (const connection of known)
      again.push({ ...connection, externalToken: await world.externalToken(connection) });
    const secondTokens = again.map(prepareCheck);
    const firstOfToken = await oneByOne(secondTokens);
    const warm = await oneByOne(secondTokens);
    progress("refreshes");
    const ended = await world.connections(count, { routes: 1, tokenEndpoint, expiresIn: -10 });
    const renewed = { upstreamToken: Buffer.from("Bearer ti-renewed-") };
    const refreshed = await oneByOne(
      ended.map((connection) => ({ ...prepareCheck(connection), ...renewed })),
    );

    const line = (name: string, { times, errors }: { times: number[]; errors: number }): Line => ({
      name,
      figures: { "p50 ms": percentile(times, 0.5), "p99 ms": percentile(times, 0.99), errors },
    });
    return {
      tables: [
        {
          title: "Cold paths",
          note: `${count} checks one after the other, with no other load; Postgres on the other core. The first check of a token verifies its signature, reads its grant and signs an assertion; the first one of a connection also reads and decrypts the upstream token; a refresh takes a lease, calls the upstream's token endpoint (on loopback) and writes.`,
          lines: [
            line("warm", warm),
            line("first of a token", firstOfToken),
            line("first of a token and a connection", firstOfConnection),
            line("first after the upstream token expired: a refresh", refreshed),
            {
              name: "start-up to ready",
              figures: { "p50 ms": figure(starts), "p99 ms": Math.max(...starts), errors: 0 },
            },
          ],
        },
      ],
      targets: [],
    };
  } finally {
    open.close();
    await sidecar.stop();
  }
};
