import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Fault } from "./fault.ts";
import type { Replica } from "./replica.ts";
import type { World } from "./world.ts";

const kill: Fault = {
  name: "kill -9 a replica",
  short: true,
  async run(scene) {
    const replica = scene.replicas[1];
    if (!replica) return;
    await replica.kill();
    const killedAt = Date.now();
    await delay(1_000);
    // By now, its pending writes have reached the database.
    const leases = await leasesIn(scene);
    const lost = await unstored(scene);
    await delay(1_000);
    // Other replicas' refreshes are stored by now; missing ones were lost with the replica.
    const ages = (await unstored(scene))
      .filter((owner) => lost.includes(owner))
      .map((owner) => scene.server.answerLost(owner) - (Date.now() - killedAt));
    await scene.pause(6_000);
    await replica.start();
    await leasesTakenOver(scene, leases);
    return `${ages.length} in the gap${ages.length > 0 ? `, issued at most ${Math.max(...ages)} ms before` : ""}`;
  },
};

/** Owner, connection and end of each refresh lease, as text. */
async function leasesIn({ query }: World): Promise<unknown[]> {
  const rows = await query(`select concat_ws(' ', user_id, route_id, lease_owner, lease_until) as lease
    from upstream_token where lease_owner is not null`);
  return rows.map(({ lease }) => lease);
}

/** Waits until all `leases` have ended: live replicas release theirs at once, the dead replica's expire and are taken over. */
async function leasesTakenOver(world: World, leases: readonly unknown[]): Promise<void> {
  for (const until = Date.now() + 40_000; Date.now() < until; await delay(500)) {
    const now = await leasesIn(world);
    if (!leases.some((lease) => now.includes(lease))) return;
  }
  throw new Error("the leases of a dead replica are not taken over");
}

/** Connections whose newest refresh token only the authorization server knows. */
async function unstored({ store, server, users }: World): Promise<string[]> {
  const stored = new Map<string, string | undefined>();
  for (const userId of users)
    for (const { routeId, refreshToken } of await store.upstreamTokens.listForUser(userId))
      stored.set(`${userId} ${routeId}`, refreshToken);
  return server.unstored(stored);
}

const rollingRestart: Fault = {
  name: "rolling restart of all",
  short: true,
  async run(scene) {
    await rollOver(scene);
    const errors = scene.seen().filter(({ outcome }) => outcome !== "right").length;
    return `errors ${errors}`;
  },
};

const clockOff: Fault = {
  name: "clock of one replica 90 s off",
  async run(scene) {
    const replica = scene.replicas[2];
    if (!replica) return;
    for (const offset of scene.short ? [90_000] : [90_000, -90_000]) {
      await replica.terminate();
      await replica.start({
        NODE_OPTIONS: `--import ${join(import.meta.dirname, "clock-offset.ts")}`,
        CLOCK_OFFSET_MS: String(offset),
      });
      await scene.pause(15_000);
    }
    await replica.terminate();
    await replica.start();
    return undefined;
  },
};

/** Restarts one replica after the other, each after the previous one is ready. */
export async function rollOver(world: Pick<World, "replicas">): Promise<void> {
  for (const replica of world.replicas) {
    await replica.terminate();
    await replica.start();
    await ready(replica);
    // Like `minReadySeconds` of a Deployment: time for the load balancer to notice.
    await delay(2_000);
  }
}

async function ready(replica: Replica): Promise<void> {
  for (const until = Date.now() + 60_000; Date.now() < until; await delay(100)) {
    const answer = await fetch(`${replica.admin}/readyz`).catch(() => undefined);
    await answer?.body?.cancel();
    if (answer?.ok) return;
  }
  throw new Error(`${replica.admin} does not become ready`);
}

export const replicaFaults: readonly Fault[] = [kill, rollingRestart, clockOff];
