import { setTimeout as delay } from "node:timers/promises";
import type { Fault } from "./fault.ts";
import { revokedWithin } from "./people-faults.ts";
import { recovery } from "./recovery.ts";

const restart: Fault = {
  name: "Postgres restarted",
  short: true,
  async run(scene) {
    await scene.postgres.stop();
    await scene.postgres.start();
    const backAt = Date.now();
    await delay(5_000);
    return recovery(scene, backAt);
  },
};

const outage: Fault = {
  name: "Postgres stopped for 10 s",
  async run(scene) {
    await scene.postgres.stop();
    await delay(10_000);
    await scene.postgres.start();
    const backAt = Date.now();
    await delay(5_000);
    return recovery(scene, backAt);
  },
};

const cut: Fault = {
  name: "connections cut mid-transaction",
  async run(scene) {
    for (const until = Date.now() + (scene.short ? 3_000 : 8_000); Date.now() < until; await delay(100)) {
      await scene.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
         where application_name = 'envoy-mcp-auth' and state <> 'idle'`,
      );
    }
    for (const { operations } of scene.replicas) {
      await operations.cut();
      await operations.restore();
    }
    await scene.pause(3_000);
    return undefined;
  },
};

const deafListener: Fault = {
  name: "notification listener black-holed",
  short: true,
  async run(scene) {
    const replica = scene.replicas[0];
    if (!replica) return;
    replica.listening.blackHole();
    await scene.pause(3_000);
    const within = await revokedWithin(scene, scene.users.at(-2));
    await replica.listening.restore();
    await scene.pause(3_000);
    return within;
  },
};

export const databaseFaults: readonly Fault[] = [restart, outage, cut, deafListener];
