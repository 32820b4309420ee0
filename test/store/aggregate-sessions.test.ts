import { describe, expect, it } from "vitest";
import { backends } from "./backends.ts";
import { describeStore } from "./describe-store.ts";
import { audit, inSeconds, signingKey } from "./samples.ts";

describeStore("sessions of aggregated routes", (store) => {
  const create = (handle: string, { grantId = "g", seconds = 60, keepPerGrant = 10 } = {}) =>
    store().aggregateSessions.create(
      {
        handle,
        userId: "company/alice",
        grantId,
        routeId: "everything",
        expiresAt: inSeconds(seconds),
        state: { members: [] as string[] },
      },
      keepPerGrant,
    );
  const find = (handle: string) => store().aggregateSessions.find<{ members: string[] }>(handle);
  const exist = (...handles: string[]) =>
    Promise.all(handles.map(async (handle) => (await find(handle)) !== undefined));

  it("changes a session only in the version that the caller has read", async () => {
    await create("changed");
    expect(await find("changed")).toMatchObject({
      ...{ handle: "changed", userId: "company/alice", grantId: "g", routeId: "everything" },
      ...{ version: 1, state: { members: [] } },
    });
    const updated = await Promise.all(
      Array.from({ length: 10 }, (_, n) =>
        store().aggregateSessions.update("changed", 1, { members: [`${n}`] }, inSeconds(120)),
      ),
    );
    expect(updated.filter(Boolean)).toHaveLength(1);
    const winner = `${updated.indexOf(true)}`;
    const found = await find("changed");
    expect(found).toMatchObject({ version: 2, state: { members: [winner] } });
    expect(found?.expiresAt.getTime()).toBeGreaterThan(Date.now() + 90_000);
    expect(await store().aggregateSessions.update("changed", 2, { members: [] }, inSeconds(60))).toBe(true);
  });

  it("neither finds nor changes an expired or removed session", async () => {
    await create("expired", { seconds: -1 });
    await create("removed");
    expect(await store().aggregateSessions.remove("removed")).toBe(true);
    expect(await store().aggregateSessions.remove("removed")).toBe(false);
    for (const handle of ["expired", "removed", "unknown"]) {
      expect(await find(handle)).toBeUndefined();
      expect(await store().aggregateSessions.update(handle, 1, {}, inSeconds(60))).toBe(false);
    }
  });

  it("tells the versions of many sessions at once, of those that have not ended", async () => {
    await create("v1");
    await create("v2");
    await create("ended", { seconds: -1 });
    await store().aggregateSessions.update("v2", 1, { members: [] }, inSeconds(600));
    const versions = await store().aggregateSessions.versions(["v1", "v2", "ended", "unknown"]);
    expect([...versions].map(([handle, { version }]) => [handle, version]).toSorted()).toEqual([
      ["v1", 1],
      ["v2", 2],
    ]);
    expect(versions.get("v2")?.expiresAt.getTime()).toBeGreaterThan(Date.now() + 500_000);
    expect(await store().aggregateSessions.versions([])).toEqual(new Map());
  });

  it("keeps a bounded number per grant: the sessions that were used last", async () => {
    const of = { grantId: "bounded", keepPerGrant: 3 };
    await create("another grant's", { grantId: "other" });
    for (const n of [1, 2, 3]) expect(await create(`s${n}`, { ...of, seconds: 60 + n })).toEqual([]);
    expect(await store().aggregateSessions.update("s1", 1, { members: [] }, inSeconds(300))).toBe(true);
    expect(await create("s4", { ...of, seconds: 10 })).toEqual([{ members: [] }]);
    expect(await exist("another grant's", "s1", "s2", "s3", "s4")).toEqual([true, true, false, true, true]);
  });

  it("ends with its grant: revoked, destroyed, or ended with all access", async () => {
    const records = store().authorizationServerRecords;
    for (const id of ["revoked", "destroyed", "kept"]) {
      await records.upsert({ model: "Grant", id, payload: {} });
      await create(`of ${id}`, { grantId: id });
    }
    await records.revokeGrant("revoked", audit("grant.revoked"));
    await records.destroy("Grant", "destroyed");
    expect(await exist("of revoked", "of destroyed", "of kept")).toEqual([false, false, true]);

    const ended = await store().endAccess(signingKey({ kid: "next" }), "test");
    expect(ended.aggregateSessions).toBeGreaterThan(0);
    await expect.poll(() => exist("of kept"), { timeout: 60_000 }).toEqual([false]);
  });
});

describe("sessions of aggregated routes, two replicas", () => {
  it("are cached on one replica until the other changes or ends them, or their grant ends", async () => {
    const backend = await backends.postgres();
    const [here, there] = await Promise.all([backend.open(), backend.open()]);
    const create = (handle: string, grantId: string, keepPerGrant = 10) =>
      here.aggregateSessions.create(
        { handle, userId: "u", grantId, routeId: "all", expiresAt: inSeconds(60), state: { handle } },
        keepPerGrant,
      );
    const cached = (handle: string) => there.aggregateSessions.find(handle);
    try {
      await here.authorizationServerRecords.upsert({ model: "Grant", id: "g2", payload: {} });
      for (const [handle, grantId] of [
        ["changed", "g1"],
        ["removed", "g1"],
        ["revoked", "g2"],
        ["dropped", "g3"],
      ] as const) {
        await create(handle, grantId);
        // The same object: not read again.
        await expect
          .poll(
            async () => {
              const [one, other] = [await cached(handle), await cached(handle)];
              return one !== undefined && one.state === other?.state;
            },
            { timeout: 60_000 },
          )
          .toBe(true);
      }
      await here.aggregateSessions.update("changed", 1, { handle: "new" }, inSeconds(120));
      await here.aggregateSessions.remove("removed");
      await here.authorizationServerRecords.revokeGrant("g2", audit("grant.revoked"));
      await create("newer", "g3", 1);
      await expect
        .poll(() => cached("changed"), { timeout: 60_000 })
        .toMatchObject({ version: 2, state: { handle: "new" } });
      for (const handle of ["removed", "revoked", "dropped"])
        await expect.poll(() => cached(handle), { timeout: 60_000 }).toBeUndefined();
    } finally {
      await Promise.all([here.close(), there.close()]);
      await backend.close();
    }
  });
});
