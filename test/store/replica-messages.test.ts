import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Store } from "../../src/store/store.ts";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";
import { type Backend, backends } from "./backends.ts";
import { describeStore } from "./describe-store.ts";

/** Everything that a replica receives. */
function mailboxOf(store: Store, replicaId: string): { received: unknown[]; stop: () => void } {
  const received: unknown[] = [];
  const stop = store.replicaMessages.receive(replicaId, (payload) => received.push(payload));
  return { received, stop };
}
const soon = { timeout: 60_000, interval: 20 };

describeStore("messages between replicas", (store) => {
  it("reach only the named replica, in order, and each once", async () => {
    const [b, c] = [mailboxOf(store(), "b"), mailboxOf(store(), "c")];
    for (let n = 0; n < 20; n++) expect(await store().replicaMessages.send("b", { n })).toBe("sent");
    await store().replicaMessages.send("c", "for c");
    await expect.poll(() => c.received, soon).toEqual(["for c"]);
    await expect.poll(() => b.received.length, soon).toBe(20);
    expect(b.received).toEqual(Array.from({ length: 20 }, (_, n) => ({ n })));
    b.stop();
    c.stop();
  });

  it("wait for a replica that does not receive yet", async () => {
    await store().replicaMessages.send("late", "first");
    const late = mailboxOf(store(), "late");
    await expect.poll(() => late.received, soon).toEqual(["first"]);
    late.stop();
    await store().replicaMessages.send("late", "second");
    const again = mailboxOf(store(), "late");
    await expect.poll(() => again.received, soon).toEqual(["second"]);
    expect(late.received).toEqual(["first"]);
    again.stop();
  });

  it("a broadcast reaches every replica once, except those that start later", async () => {
    await store().replicaMessages.broadcast("zero");
    const sent = Date.now();
    await expect.poll(() => Date.now(), soon).toBeGreaterThan(sent);
    const replicas = ["x", "y"].map((id) => mailboxOf(store(), id));
    await store().replicaMessages.broadcast("one");
    await store().replicaMessages.broadcast("two");
    for (const { received } of replicas) await expect.poll(() => received, soon).toEqual(["one", "two"]);
    for (const { stop } of replicas) stop();
  });

  it("are at most 4 MiB, and at most 1,000 wait for one replica", async () => {
    const { send } = store().replicaMessages;
    expect(await send("large", "x".repeat(4 * 1024 * 1024))).toBe("too_large");
    const text = "x".repeat(4 * 1024 * 1024 - 2);
    const large = mailboxOf(store(), "large");
    for (let n = 0; n < 3; n++) expect(await send("large", text)).toBe("sent");
    await expect.poll(() => large.received.length, soon).toBe(3);
    expect(large.received.every((payload) => payload === text)).toBe(true);
    large.stop();

    for (let n = 0; n < 1_000; n += 50)
      await Promise.all(Array.from({ length: 50 }, (_, i) => send("dead", n + i)));
    expect(await send("dead", "one more")).toBe("full");
    expect(await send("alive", "others are not affected")).toBe("sent");
  });

  it("a listener that throws does not lose the next message", async () => {
    const received: unknown[] = [];
    const stop = store().replicaMessages.receive("throws", (payload) => {
      received.push(payload);
      throw new Error("broken");
    });
    await store().replicaMessages.send("throws", 1);
    await store().replicaMessages.send("throws", 2);
    await expect.poll(() => received, soon).toEqual([1, 2]);
    stop();
  });
});

describe("messages between two replicas on one Postgres", () => {
  let backend: Backend & { url: string };
  let proxy: TcpProxy;
  let here: Store;
  let there: Store;
  beforeEach(async () => {
    backend = await backends.postgres();
  });
  afterEach(async () => {
    await Promise.all([here?.close(), there?.close()]);
    await proxy?.close();
    await backend?.close();
  });

  it("arrive after the receiver's listener was disconnected", async () => {
    const address = new URL(backend.url);
    proxy = await startTcpProxy({ host: address.hostname, port: Number(address.port) });
    address.host = `127.0.0.1:${proxy.port}`;
    [here, there] = await Promise.all([backend.open(), backend.open({ url: String(address) })]);
    const { received } = mailboxOf(there, "there");
    await here.replicaMessages.send("there", "before");
    await expect.poll(() => received, soon).toEqual(["before"]);
    await proxy.cut();
    await here.replicaMessages.send("there", "during");
    await here.replicaMessages.broadcast("to all");
    await proxy.restore();
    await expect.poll(() => received, soon).toEqual(["before", "during", "to all"]);
  });

  it("that were changed or moved in the database are not delivered", async () => {
    [here, there] = await Promise.all([backend.open(), backend.open()]);
    await here.replicaMessages.send("victim", "for the victim");
    await here.replicaMessages.send("there", "first");
    await backend.query(`update replica_message set to_replica = 'there' where to_replica = 'victim'`);
    await here.replicaMessages.send("there", "second");
    const { received } = mailboxOf(there, "there");
    await expect.poll(() => received, soon).toEqual(["first", "second"]);
  });
});
