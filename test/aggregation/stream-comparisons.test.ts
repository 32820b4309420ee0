import { afterAll, afterEach, beforeAll, beforeEach, expect, it, vi } from "vitest";
import { responded, withSession } from "./raw-client.ts";
import { type RawMember, rawMember } from "./raw-member.ts";
import { startReplicas, type TestReplicas } from "./replicas.ts";

const wait = { timeout: 60_000 };
let member: RawMember;
let replicas: TestReplicas;
let reads = 0;

beforeAll(async () => {
  member = await rawMember();
});
afterAll(() => member.close());
beforeEach(async () => {
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
  replicas = await startReplicas([{ id: "raw", url: member.url }], { count: 2 });
  replicas.access.reading = () => {
    reads += 1;
  };
});
afterEach(async () => {
  await replicas.close();
  vi.useRealTimers();
});

/** A session whose stream is open at the first replica. */
async function listening(client: Awaited<ReturnType<typeof withSession>>) {
  const stream = await responded(client.send("GET"));
  stream.on("error", () => {}).resume();
  return stream;
}

it("a stream reads nothing from the store while nothing changes, and one statement for all finds what was missed", async () => {
  const clients = [await withSession(replicas), await withSession(replicas)] as const;
  for (const client of clients) await (await client.post({ method: "tools/list" })).text();
  const streams = [await listening(clients[0]), await listening(clients[1])] as const;
  await expect.poll(() => member.streams.size, wait).toBe(2);
  reads = 0;
  const compared = replicas.compared();
  await vi.advanceTimersByTimeAsync(600_000);
  expect([reads, replicas.compared() - compared]).toEqual([0, 20]);

  // As if the notification had been lost.
  for (const handle of replicas.rows.keys())
    if (handle === clients[0].headers["mcp-session-id"]) replicas.rows.delete(handle);
  await vi.advanceTimersByTimeAsync(30_000);
  await expect.poll(() => [streams[0].closed, streams[1].closed], wait).toEqual([true, false]);
  expect(reads).toBe(1);
});

it("a stream follows at once what happens to its session at another replica", async () => {
  const client = await withSession(replicas);
  const stream = await listening(client);
  expect(member.streams.size).toBe(0);
  const listed = await responded(client.send("POST", { method: "tools/list" }, 1));
  listed.resume();
  await expect.poll(() => member.streams.size, wait).toBe(1);
  (await responded(client.send("DELETE", undefined, 1))).resume();
  await expect.poll(() => stream.closed, wait).toBe(true);
});

it("a member's stream that could not be connected again is opened later, without looking at the others", async () => {
  const client = await withSession(replicas);
  await (await client.post({ method: "tools/list" })).text();
  await listening(client);
  await expect.poll(() => member.streams.size, wait).toBe(1);
  const before = member.opened();
  member.streaming = false;
  for (const stream of member.streams) stream.destroy();
  // As often as the SDK tries.
  await expect.poll(() => member.opened() - before, wait).toBeGreaterThanOrEqual(3);
  member.streaming = true;
  await expect.poll(() => member.streams.size, wait).toBe(1);
});
