import { readFile, writeFile } from "node:fs/promises";
import { setTimeout as delay, setImmediate as turn } from "node:timers/promises";
import { type GrpcConnection, grpcConnection } from "../load/grpc-connection.ts";
import { percentile } from "../load/percentile.ts";
import type { Line, Table } from "../report/report.ts";
import { isAllowed, type PreparedCheck } from "../world/check-call.ts";
import { checkPath, denialOf } from "../world/check-message.ts";
import { type RunningSidecar, startSidecar } from "../world/start-sidecar.ts";
import type { World } from "../world/world.ts";

const concurrency = 16;

/** A running replica, and its calls under way. */
interface Replica {
  readonly sidecar: RunningSidecar;
  readonly connection: GrpcConnection;
  /** Checks the next connection. */
  readonly ask: () => Promise<{ readonly failure: string | undefined; readonly ms: number }>;
  /** Gets no new calls: what Envoy's health checks do before a replica stops. */
  leaving: boolean;
  underWay: number;
}

/** Start-up, first checks, and under load a reload of the routes file and a rolling restart of two replicas. */
export async function measureServing(
  world: World,
  file: string,
  checks: readonly PreparedCheck[],
  progress: (line: string) => void,
): Promise<Table> {
  const lines: Line[] = [];
  let asked = 0;
  const next = () => {
    const check = checks[asked++ % checks.length];
    if (!check) throw new Error("there are no checks");
    return check;
  };
  const start = () => startSidecar({ world, file, core: undefined });
  // Connected when it is needed: a connection that waits is closed.
  const connected = async (sidecar: RunningSidecar): Promise<Replica> => {
    const connection = await grpcConnection(sidecar.grpc, checkPath);
    const ask: Replica["ask"] = () => {
      const check = next();
      return new Promise((resolve) => {
        connection.call(check.message, ({ message, ms }) => {
          const failed = !isAllowed(check, message);
          resolve({ failure: failed ? (message ? denialOf(message) : "no response") : undefined, ms });
        });
      });
    };
    return { sidecar, connection, ask, leaving: false, underWay: 0 };
  };

  progress("start-up and first checks");
  const first = await connected(await start());
  lines.push({ name: "`serve` is ready", figures: { ms: first.sidecar.readyMs } });
  lines.push({ name: "its first check", figures: { ms: await timed(first) } });
  const cold: number[] = [];
  for (let n = 0; n < 100; n++) cold.push(await timed(first));
  lines.push({
    name: "100 first checks of other connections, one after another",
    figures: { "ms p50": percentile(cold, 0.5), "ms p99": percentile(cold, 0.99) },
  });

  progress("reload of the routes file under load");
  lines.push(await measureReload(first, file));
  const replicas = [first, await connected(await start())];

  progress("rolling restart of two replicas under load");
  const load = keepAsking(replicas);
  const startedAt = performance.now();
  for (const index of replicas.keys()) {
    const old = replicas[index];
    if (!old) continue;
    old.leaving = true;
    while (old.underWay > 0) await turn();
    old.connection.close();
    await old.sidecar.stop();
    replicas[index] = await connected(await start());
  }
  const ms = performance.now() - startedAt;
  const { times, failures } = await load.stop();
  lines.push({
    name: `rolling restart of two replicas, ${concurrency} checks at a time`,
    figures: {
      ms,
      checks: times.length,
      "ms p50": percentile(times, 0.5),
      "ms p99": percentile(times, 0.99),
      errors: failures.length,
      failures: describeFailures(failures),
    },
  });
  for (const { connection, sidecar } of replicas) {
    connection.close();
    await sidecar.stop();
  }
  return {
    title: "Serving",
    note: "Checks go to the replicas directly. Before a replica stops, it gets no new ones, as from an Envoy that checks its health.",
    lines,
  };
}

/** The longest check tells how long a reload holds the others up. @throws Error if the replica does not reload within two minutes */
async function measureReload(replica: Replica, file: string): Promise<Line> {
  const config = JSON.parse(await readFile(file, "utf8"));
  const load = keepAsking([replica]);
  const startedAt = performance.now();
  const reloaded = async () => {
    await writeFile(file, JSON.stringify({ ...config, limits: { log_lines: 11 } }));
    while (!replica.sidecar.log().includes("the routes file was reloaded")) {
      if (performance.now() - startedAt > 120_000) throw new Error("the routes file was not reloaded");
      await delay(20);
    }
    return performance.now() - startedAt;
  };
  const ms = await reloaded().finally(() => load.stop());
  const { times, failures } = await load.stop();
  return {
    name: `reload of the routes file, ${concurrency} checks at a time`,
    figures: {
      ms,
      checks: times.length,
      "ms p50": percentile(times, 0.5),
      "ms p99": percentile(times, 0.99),
      "ms, longest": percentile(times, 1),
      errors: failures.length,
      failures: describeFailures(failures),
    },
  };
}

const describeFailures = (failures: readonly string[]) => [...new Set(failures)].join("; ").slice(0, 200);

/** @throws Error if the check is not allowed with the right upstream token */
async function timed({ ask, sidecar }: Replica): Promise<number> {
  const { failure, ms } = await ask();
  if (failure !== undefined)
    throw new Error(`a valid check was not allowed: ${failure}\n${sidecar.log().slice(-2_000)}`);
  return ms;
}

function keepAsking(replicas: readonly Replica[]) {
  const times: number[] = [];
  const failures: string[] = [];
  let turns = 0;
  let stopped = false;
  const worker = async () => {
    while (!stopped) {
      const serving = replicas.filter(({ leaving }) => !leaving);
      const replica = serving[turns++ % serving.length];
      if (!replica) throw new Error("no replica serves");
      replica.underWay++;
      const { failure, ms } = await replica.ask();
      replica.underWay--;
      if (failure === undefined) times.push(ms);
      else failures.push(failure);
    }
  };
  const workers = Promise.all(Array.from({ length: concurrency }, worker));
  return {
    /** Waits for the checks under way. May be called again. */
    async stop() {
      stopped = true;
      await workers;
      return { times, failures };
    },
  };
}
