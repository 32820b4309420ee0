import { text } from "node:stream/consumers";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { ParkedCall, ParkedCalls } from "../../src/aggregation/parked-calls.ts";
import { responded, withSession } from "./raw-client.ts";
import { type RawMember, rawMember } from "./raw-member.ts";
import { startReplicas, type TestMember, type TestReplicas } from "./replicas.ts";

const wait = { timeout: 60_000 };
let member: RawMember;
let other: RawMember;
let members: [TestMember, TestMember];
let replicas: TestReplicas;

beforeAll(async () => {
  [member, other] = await Promise.all([rawMember(), rawMember()]);
  members = [
    { id: "raw", url: member.url },
    { id: "other", url: other.url },
  ];
  replicas = await startReplicas(members, { count: 2 });
});
afterAll(async () => {
  await replicas.close();
  await member.close();
  await other.close();
});
afterEach(() => {
  replicas.access.person = (userId) => ({ userId, groups: [], claims: {} });
  replicas.access.mayReach = () => true;
  for (const one of members) one.granted = true;
  return replicas.reload(members);
});

/** An open stream, and an open call. */
async function working() {
  const client = await withSession(replicas);
  await (await client.post({ method: "tools/list" })).text();
  const stream = await responded(client.send("GET"));
  stream.on("error", () => {}).resume();
  const call = client.send("POST", { method: "tools/call", params: { name: "raw__wait", arguments: {} } });
  const called = await responded(call);
  called.on("error", () => {}).resume();
  await expect.poll(() => [member.streams.size, member.calls.size], wait).toEqual([1, 1]);
  return { ended: () => [stream.closed, called.closed] };
}

it.each([
  [
    "the person leaves",
    () => {
      replicas.access.person = () => undefined;
      replicas.change({ table: "browser_session", userId: "alice" });
    },
  ],
  [
    "the person's groups no longer give access to the aggregated route",
    () => {
      replicas.access.person = (userId) => ({ userId, groups: ["former"], claims: {} });
      replicas.access.mayReach = ({ groups }, { id }) => id !== "all" || !groups.includes("former");
      replicas.change({ table: "browser_session", userId: "alice" });
    },
  ],
  [
    "the grant is revoked",
    () => {
      for (const one of members) one.granted = false;
      replicas.change({ table: "grant", grantId: "g1" });
    },
  ],
])("when %s, streams and calls that are open end at once", async (_what, change) => {
  const { ended } = await working();
  change();
  await expect.poll(ended, wait).toEqual([true, true]);
  await expect.poll(() => [member.streams.size, member.calls.size], wait).toEqual([0, 0]);
});

it("when the person leaves while the store is unavailable, streams and calls that are open end once it is back", async () => {
  const { ended } = await working();
  let asked = 0;
  replicas.access.person = () => {
    asked += 1;
    throw new Error("the store is unavailable");
  };
  replicas.change({ table: "browser_session", userId: "alice" });
  await expect.poll(() => asked, wait).toBeGreaterThan(0);
  expect(ended()).toEqual([false, false]);
  replicas.access.person = () => undefined;
  await expect.poll(ended, wait).toEqual([true, true]);
  await expect.poll(() => [member.streams.size, member.calls.size], wait).toEqual([0, 0]);
});

it("when one member is removed from a grant, the stream goes on without it", async () => {
  const { ended } = await working();
  await expect.poll(() => other.streams.size, wait).toBe(1);
  members[1].granted = false;
  replicas.change({ table: "grant", grantId: "g1" });
  await expect.poll(() => other.streams.size, wait).toBe(0);
  expect([member.streams.size, ...ended()]).toEqual([1, false, false]);
  members[0].granted = false;
  replicas.change({ table: "grant", grantId: "g1" });
  await expect.poll(ended, wait).toEqual([true, true]);
});

it.each([
  ["the person removes a member from the application", () => (members[1].granted = false)],
  [
    "the person's groups no longer give access to a member",
    () => (replicas.access.mayReach = (_person, { id }) => id !== "other"),
  ],
  ["a member is taken out of the route", () => replicas.reload(members.slice(0, 1))],
])("when %s, calls of it that are under way on any replica end, and others go on", async (_what, lose) => {
  const client = await withSession(replicas);
  const begin = async (name: string, replica: number) => {
    const params = { name, arguments: {} };
    const response = await responded(client.send("POST", { method: "tools/call", params }, replica));
    return { response, body: text(response).catch(() => "cut") };
  };
  const lasting = await Promise.all([begin("raw__wait", 0), begin("raw__wait", 1)]);
  const removed = await Promise.all([begin("other__wait", 0), begin("other__wait", 1)]);
  await expect.poll(() => [member.calls.size, other.calls.size], wait).toEqual([2, 2]);
  await lose();
  replicas.change({ table: "grant", grantId: "g1" });
  for (const { body } of removed)
    expect(await body).toContain('"message":"other may no longer be used here; the call was ended');
  await expect.poll(() => other.calls.size, wait).toBe(0);
  expect(member.calls.size).toBe(2);
  for (const { response } of lasting) response.destroy();
  await expect.poll(() => member.calls.size, wait).toBe(0);
});

it("when a person's groups no longer give access to a member, the stream goes on without it", async () => {
  const { ended } = await working();
  await expect.poll(() => other.streams.size, wait).toBe(1);
  replicas.access.person = (userId) => ({ userId, groups: ["former"], claims: {} });
  replicas.access.mayReach = ({ groups }, { id }) => id !== "other" || !groups.includes("former");
  replicas.change({ table: "browser_session", userId: "alice" });
  await expect.poll(() => other.streams.size, wait).toBe(0);
  expect(ended()).toEqual([false, false]);
});

it("calls that wait for answers end with their grant, and others wait on", () => {
  const parked = new ParkedCalls(() => {});
  const [revoked, lasting] = [
    new ParkedCall("a", { userId: "u", grantId: "g1" }),
    new ParkedCall("a", { userId: "u", grantId: "g2" }),
  ];
  parked.keep(revoked);
  parked.keep(lasting);
  parked.cancelGrant("g1");
  expect([revoked.signal.aborted, lasting.signal.aborted, parked.size]).toEqual([true, false, 1]);
  parked.close();
});
