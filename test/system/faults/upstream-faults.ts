import { setTimeout as delay } from "node:timers/promises";
import type { Fault, Scene } from "./fault.ts";
import { type Call, observe } from "./load.ts";
import type { Behaviour } from "./rotating-authorization-server.ts";

/** Long enough for many of the 20 s tokens to expire. */
function misbehaving(name: string, behaviour: Behaviour, short = false): Fault {
  return {
    name: `authorization server ${name}`,
    short,
    async run(scene) {
      scene.server.behave(behaviour);
      await scene.pause(12_000);
      scene.server.behave({ kind: "well" });
      await scene.pause(6_000);
      return `${scene.server.counts().failed} calls to it failed so far`;
    },
  };
}

const crowd = 10_000;
const atOnce = 1_000;

/** Ten thousand people whose tokens have all just expired make calls, and retry when asked to. */
const stampede: Fault = {
  name: "10,000 connections refreshed at the same instant",
  expectedConnections: () => crowd,
  async run(scene) {
    const routeId = scene.routes[0] ?? "";
    const people = Array.from({ length: crowd }, (_, index) => `company/crowd${index}`);
    const grantId = await scene.seed.grant("company/crowd");
    for (let from = 0; from < crowd; from += 50)
      await Promise.all(
        people.slice(from, from + 50).map((userId) => scene.seed.connect(userId, routeId, 0.001)),
      );
    const calls = await Promise.all(people.map((userId) => scene.seed.call(userId, grantId, routeId)));
    // Refreshed tokens last until all have been served, as with most servers.
    scene.server.giveFor(3_600);
    const before = scene.server.counts().refreshes;
    const startedAt = Date.now();
    let waiting = calls;
    let rounds = 0;
    while (waiting.length > 0 && Date.now() - startedAt < 180_000) {
      waiting = await callAll(scene, waiting);
      rounds++;
      // After `Retry-After: 1`.
      await delay(1_000);
    }
    const seconds = ((Date.now() - startedAt) / 1000).toFixed(0);
    const refreshes = scene.server.counts().refreshes - before;
    return `${crowd - waiting.length} served after ${seconds} s, in ${rounds} rounds; ${refreshes} refreshes with the steady load's`;
  },
};

/** Makes every call once, many at a time; returns those to retry. */
async function callAll(scene: Scene, calls: readonly Call[]): Promise<Call[]> {
  const again: Call[] = [];
  const queue = [...calls];
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      for (let call = queue.pop(); call; call = queue.pop()) {
        const observation = await observe(scene.fetch, call);
        scene.count(observation);
        if (observation.outcome !== "right") again.push(call);
      }
    }),
  );
  return again;
}

/** Endless tool lists that arrive one byte at a time: calls to other servers do not wait for them. */
const endlessLists: Fault = {
  name: "an upstream with endless lists, one byte at a time",
  short: true,
  async run(scene) {
    const [userId = ""] = scene.users;
    const { url, token } = await scene.seed.call(userId, await scene.seed.grant(userId), "inspected");
    const stopped = new AbortController();
    const lists = Array.from({ length: scene.short ? 20 : 100 }, () =>
      scene
        .fetch(url, {
          method: "POST",
          headers: {
            authorization: `Bearer ${token}`,
            "content-type": "application/json",
            accept: "application/json, text/event-stream",
          },
          body: '{"jsonrpc":"2.0","id":1,"method":"tools/list"}',
          signal: stopped.signal,
        })
        .then((response) => response.text())
        .catch(() => ""),
    );
    await scene.pause(15_000);
    const held = scene.upstream.endless();
    stopped.abort();
    await Promise.all(lists);
    if (held === 0) throw new Error("no list was being sent");
    return `${held} lists pending at the end`;
  },
};

export const upstreamFaults: readonly Fault[] = [
  misbehaving("answering 500", { kind: "status", status: 500 }, true),
  misbehaving("answering 429, Retry-After 3", { kind: "status", status: 429, retryAfter: 3 }),
  misbehaving("hanging", { kind: "hangs" }),
  misbehaving("closing mid-body", { kind: "closes_mid_body" }),
  endlessLists,
];
export const stampedeFault = stampede;
