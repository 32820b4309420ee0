import { describe, expect, it } from "vitest";
import { createGrantedMembers } from "../../src/store/granted-members.ts";
import type { Change } from "../../src/store/notifications/notifications.ts";
import type { Store } from "../../src/store/store.ts";
import { backends } from "./backends.ts";
import { changes } from "./changes.ts";
import { describeStore } from "./describe-store.ts";
import { audit, inSeconds, signIn, signingKey } from "./samples.ts";

const userId = "company/alice";
const [notes, tickets] = [
  { routeId: "notes", upstream: "https://notes.example.com/mcp" },
  { routeId: "tickets", upstream: "https://tickets.example.com/mcp" },
];

/** The route ids, sorted: the store has no order. */
const sorted = (members: Iterable<string>) => [...members].toSorted();

/** A grant of Alice's with these members. */
async function grant(store: Store, members = [notes], expiresAt = inSeconds(3600)): Promise<string> {
  const grantId = crypto.randomUUID();
  await store.signInSessions.put(signIn(userId));
  const payload = { accountId: userId, clientId: "client" };
  const record = { model: "Grant", id: grantId, payload, expiresAt };
  expect(await store.authorizationServerRecords.upsertIfAllowed(record, undefined, members)).toBe(true);
  return grantId;
}
const membersOf = async (store: Store, grantId: string) =>
  sorted((await store.grantedMembers.of(grantId)).keys());
const eventsOf = async (store: Store, id: string) =>
  (await store.auditEvents({ limit: 1000 })).filter(({ grantId }) => grantId === id);

describeStore("members that a grant may use", (store) => {
  it("are stored with their grant, or not at all", async () => {
    const grantId = await grant(store(), [notes, tickets]);
    expect(Object.fromEntries(await store().grantedMembers.of(grantId))).toEqual({
      notes: notes.upstream,
      tickets: tickets.upstream,
    });
    const payload = { accountId: "company/nobody" };
    const unknown = { model: "Grant", id: "of nobody", payload };
    expect(await store().authorizationServerRecords.upsertIfAllowed(unknown, undefined, [notes])).toBe(false);
    expect(await membersOf(store(), "of nobody")).toEqual([]);
  });

  it("are added once, each with an audit event, and removed once", async () => {
    const grantId = await grant(store());
    const allow = () =>
      store().grantedMembers.allow({ grantId, userId }, [notes, tickets], { reason: "link" });
    expect([await allow(), await allow()]).toEqual([true, true]);
    expect(await membersOf(store(), grantId)).toEqual(["notes", "tickets"]);
    const remove = () => store().grantedMembers.remove(grantId, "notes", { userId, reason: "portal" });
    expect([await remove(), await remove()]).toEqual([true, false]);
    expect(await membersOf(store(), grantId)).toEqual(["tickets"]);
    const about = { userId, clientId: "client" };
    expect(await eventsOf(store(), grantId)).toMatchObject([
      { action: "granted_member.added", ...about, routeId: "tickets", reason: "link" },
      { action: "granted_member.removed", userId, routeId: "notes", reason: "portal" },
    ]);
  });

  it("follow a person who allows the route again after it moved to another upstream", async () => {
    const grantId = await grant(store());
    const moved = { ...notes, upstream: "https://moved.example.com/mcp" };
    expect(await store().grantedMembers.allow({ grantId, userId }, [moved], {})).toBe(true);
    expect(Object.fromEntries(await store().grantedMembers.of(grantId))).toEqual({ notes: moved.upstream });
  });

  it("are not added to another person's grant, nor to one that has ended", async () => {
    const grantId = await grant(store());
    const allow = (over = {}) => store().grantedMembers.allow({ grantId, userId, ...over }, [tickets], {});
    expect(await allow({ userId: "company/bob" })).toBe(false);
    expect(await allow({ grantId: "unknown" })).toBe(false);
    await store().authorizationServerRecords.revokeGrant(grantId, audit("grant.revoked"));
    expect(await allow()).toBe(false);
    expect(await membersOf(store(), grantId)).toEqual([]);
  });

  it("end with their grant: revoked, deleted, expired", async () => {
    const revoked = await grant(store());
    await store().authorizationServerRecords.revokeGrant(revoked, audit("grant.revoked"));
    const deleted = await grant(store());
    await store().authorizationServerRecords.destroy("Grant", deleted);
    const expiring = await grant(store(), [notes, tickets], inSeconds(60));
    const lasting = await grant(store());
    expect((await store().removeExpired(inSeconds(120))).granted_member).toBe(2);
    for (const ended of [revoked, deleted, expiring]) expect(await membersOf(store(), ended)).toEqual([]);
    expect(await membersOf(store(), lasting)).toEqual(["notes"]);
  });

  it("end when all access ends", async () => {
    const grantId = await grant(store());
    await store().endAccess(signingKey({ kid: "next" }), "restored");
    expect(await membersOf(store(), grantId)).toEqual([]);
  });
});

describe("members that a grant may use, two replicas", () => {
  it("change on the other replica when they change on one, and are cached there in between", async () => {
    const backend = await backends.postgres();
    const [here, there] = await Promise.all([backend.open(), backend.open()]);
    const upstreams = new Map([notes, tickets].map(({ routeId, upstream }) => [routeId, upstream]));
    const cached = createGrantedMembers({
      store: there,
      upstreamOf: (routeId) => upstreams.get(routeId),
      limits: { bytes: 100_000 },
    });
    try {
      const grantId = await grant(here);
      const ofGrant = (change: Change) => change.table === "grant" && change.grantId === grantId;
      expect([...(await cached.of(grantId))]).toEqual(["notes"]);
      await expect.poll(() => cached.of(grantId) instanceof Set, { timeout: 60_000 }).toBe(true);
      for (const [act, members] of [
        [() => here.grantedMembers.allow({ grantId, userId }, [tickets], {}), ["notes", "tickets"]],
        [() => here.grantedMembers.remove(grantId, "notes", {}), ["tickets"]],
      ] as const) {
        const { next, stop } = changes(there, ofGrant);
        await act();
        await next;
        stop();
        expect(sorted(await cached.of(grantId))).toEqual(members);
      }
      // The route moved: what the person has seen is another server.
      upstreams.set("tickets", "https://elsewhere.example.com/mcp");
      expect([...(await cached.of(grantId))]).toEqual([]);
    } finally {
      cached.close();
      await Promise.all([here.close(), there.close()]);
      await backend.close();
    }
  });

  it("do not outlive a grant that is revoked at the same time", async () => {
    const backend = await backends.postgres();
    const [here, there] = await Promise.all([backend.open(), backend.open()]);
    try {
      for (let round = 0; round < 20; round++) {
        const grantId = await grant(here);
        await Promise.all([
          here.grantedMembers.allow({ grantId, userId }, [tickets], {}),
          there.authorizationServerRecords.revokeGrant(grantId, audit("grant.revoked")),
        ]);
        expect(await membersOf(here, grantId)).toEqual([]);
      }
    } finally {
      await Promise.all([here.close(), there.close()]);
      await backend.close();
    }
  });
});
