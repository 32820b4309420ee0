import { setImmediate } from "node:timers/promises";
import { afterEach, beforeEach, expect, it } from "vitest";
import { Exchanges } from "../../src/aggregation/exchanges.ts";
import { ParkedCalls } from "../../src/aggregation/parked-calls.ts";
import { replicaLink } from "../../src/aggregation/replica-link.ts";
import type { ReplicaMessages } from "../../src/store/replica-messages.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";

let listener: (payload: unknown) => void = () => {};
const unhandled: unknown[] = [];
const onUnhandled = (reason: unknown) => unhandled.push(reason);
beforeEach(() => void process.on("unhandledRejection", onUnhandled));
afterEach(() => {
  process.off("unhandledRejection", onUnhandled);
  expect(unhandled.splice(0)).toEqual([]);
});

function linkThat(send: ReplicaMessages["send"]) {
  const metrics = createMetrics();
  const link = replicaLink({
    messages: {
      send,
      broadcast: async () => "sent",
      receive: (_id, wanted) => {
        listener = wanted;
        return () => {};
      },
    },
    logger: createLogger({ level: "silent" }),
    metrics,
    replicaId: "here",
    exchanges: new Exchanges(),
    parked: new ParkedCalls(() => {}),
    awaitConsent: () => {},
    refreshStreams: async () => {},
  });
  return { link, metrics };
}
const call = { id: "call", owner: "session" };

it("a client that disconnects while its answer is being sent disturbs nothing else", async () => {
  const client = new AbortController();
  const { link } = linkThat(async () => {
    client.abort();
    await setImmediate();
    return "sent";
  });
  await expect(link.resume("there", call, {}, client.signal)).rejects.toThrow(/no longer waits/);
});

it("nor does a replica that rejects the answer before it has been sent completely", async () => {
  const { link } = linkThat(async (_to, payload) => {
    const { wait } = payload as { wait: string };
    listener({ kind: "failed", wait, message: "rejected at once" });
    await setImmediate();
    return "sent";
  });
  await expect(link.resume("there", call, {}, new AbortController().signal)).rejects.toThrow(
    "rejected at once",
  );
});

it("nothing is sent for a client that has disconnected", async () => {
  const sent: unknown[] = [];
  const { link } = linkThat(async (_to, payload) => {
    sent.push(payload);
    return "sent";
  });
  await expect(link.resume("there", call, {}, AbortSignal.abort())).rejects.toThrow(/no longer waits/);
  expect(sent).toEqual([]);
});

it.each(["full", "too_large"] as const)(
  "an answer that cannot be sent (%s) fails, and is counted",
  async (outcome) => {
    const { link, metrics } = linkThat(async () => outcome);
    await expect(link.resume("there", call, {}, new AbortController().signal)).rejects.toThrow(
      /no longer waits/,
    );
    expect(await metrics.limitsReached.get()).toMatchObject({
      values: [{ labels: { limit: "replica_messages" }, value: 1 }],
    });
  },
);
