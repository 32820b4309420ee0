import { cpuClock } from "../load/cpu-clock.ts";
import { type GrpcConnection, grpcConnection } from "../load/grpc-connection.ts";
import { interleaved, maxRepetition } from "../load/interleaved.ts";
import { closedLoop, openLoop, type Round } from "../load/load.ts";
import { ratio, roundsLine } from "../report/report.ts";
import type { Target } from "../report/target.ts";
import { checkCall, type PreparedCheck, prepareCheck } from "../world/check-call.ts";
import { checkPath } from "../world/check-message.ts";
import { everyCore } from "../world/cores.ts";
import { startSidecar } from "../world/start-sidecar.ts";
import type { Suite } from "./suite.ts";

/** Half of what goes through, but no more than this, or there would be more cold ones to make than time. */
const most = 5000;
const roundMs = 2000;
const warmConnections = 1000;
/** One check in a hundred is the first of its connection; one in a thousand finds its upstream token expired. */
const coldEvery = 100;
const refreshEvery = 1000;
const revocationsPerSecond = 5;

/** Warm checks alone, and the same with all that goes on beside them on a busy day. */
export const mixedLoad: Suite = async ({ world, cores, upstream, rounds, progress }) => {
  const tokenEndpoint = `${upstream}/token`;
  const file = await world.routesFile("mixed-load", {
    routes: 10,
    upstream,
    tokenEndpoint,
    listen: { grpc: "127.0.0.1:0", http: "127.0.0.1:0", admin: "127.0.0.1:0" },
  });
  progress("mixed load: connections");
  // As many as the most rounds need.
  const calls = (most * roundMs * rounds * maxRepetition) / 1000;
  const options = { routes: 10, tokenEndpoint };
  const warm = (await world.connections(warmConnections, options)).map(prepareCheck);
  const cold = (await world.connections(Math.ceil(calls / coldEvery) + 10, options)).map(prepareCheck);
  const ending = (
    await world.connections(Math.ceil(calls / refreshEvery) + 10, { ...options, expiresIn: -10 })
  ).map((connection) => ({
    ...prepareCheck(connection),
    upstreamToken: Buffer.from("Bearer ti-renewed-"),
  }));
  const revocable = await world.connections(
    Math.ceil((revocationsPerSecond * roundMs * rounds * maxRepetition) / 1000) + 10,
    { ...options, ownGrants: true },
  );
  const pinAgain = everyCore(cores);
  const sidecar = await startSidecar({ world, file, core: undefined });
  const open: GrpcConnection[] = [];
  for (let count = 0; count < 4; count++) open.push(await grpcConnection(sidecar.grpc, checkPath));
  const cpu = cpuClock(sidecar.pid);

  let turn = 0;
  const anyWarm = (): PreparedCheck => {
    const next = warm[turn++ % warm.length];
    if (!next) throw new Error("no connection");
    return next;
  };
  let mixedTurn = 0;
  const mixed = (): PreparedCheck => {
    mixedTurn++;
    if (mixedTurn % refreshEvery === 0) return ending.pop() ?? anyWarm();
    if (mixedTurn % coldEvery === 0) return cold.pop() ?? anyWarm();
    return anyWarm();
  };
  async function withRevocations(run: () => Promise<Round>): Promise<Round> {
    const timer = setInterval(() => {
      const { grantId, userId } = revocable.pop() ?? {};
      if (grantId === undefined) return;
      void world.store.authorizationServerRecords.revokeGrant(grantId, {
        action: "grant.revoked",
        userId,
        grantId,
      });
    }, 1000 / revocationsPerSecond);
    try {
      return await run();
    } finally {
      clearInterval(timer);
    }
  }
  try {
    const first = [...warm, ...revocable.map(prepareCheck)].values();
    // Over all connections in turn: one that stays idle is closed.
    const ask = checkCall(open, () => first.next().value ?? anyWarm());
    for (let left = warm.length + revocable.length; left > 0; left--)
      await new Promise<void>((resolve, reject) =>
        ask((ok) => (ok ? resolve() : reject(new Error("a check was refused")))),
      );
    const call = checkCall(open, anyWarm);
    await closedLoop({ call, ms: 2000, cpu, concurrency: 16 });
    const capacity = await closedLoop({ call, ms: 1000, cpu, concurrency: 16 });
    const perSecond = Math.min(most, Math.round(capacity.perSecond / 2));
    progress(`mixed load: ${perSecond} checks a second`);
    const measured = await interleaved(
      rounds,
      {
        warm: () => openLoop({ call: checkCall(open, anyWarm), ms: roundMs, cpu, perSecond }),
        mixed: () =>
          withRevocations(() => openLoop({ call: checkCall(open, mixed), ms: roundMs, cpu, perSecond })),
      },
      judge,
    );
    return {
      tables: [
        {
          title: "Mixed load",
          note: `${perSecond.toLocaleString("en")} checks per second over ${warmConnections.toLocaleString("en")} connections on 10 routes, alone and with 1% first checks of a connection, 0.1% refreshes and ${revocationsPerSecond} revocations per second. Nothing is pinned to a core.`,
          lines: [
            roundsLine("all warm", measured.warm),
            roundsLine("with cold ones, refreshes and revocations", measured.mixed),
          ],
        },
      ],
      targets: judge(measured),
    };
  } finally {
    for (const one of open) one.close();
    await sidecar.stop();
    pinAgain();
  }
};

function judge({ mixed, warm }: Record<"mixed" | "warm", Round[]>): Target[] {
  return [
    {
      name: "Mixed load: p99 against the warm one's",
      wanted: { atMost: 1.5 },
      measured: ratio(mixed, warm, "p99"),
    },
  ];
}
