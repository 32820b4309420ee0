import { beforeEach, describe, expect, it } from "vitest";
import type { Change } from "../../src/store/notifications/notifications.ts";
import type { Store } from "../../src/store/store.ts";
import { askForDelegation } from "../support/ask-for-delegation.ts";
import { rowsOf } from "../support/rows-of.ts";
import { backends } from "./backends.ts";
import { changes } from "./changes.ts";
import { describeStore } from "./describe-store.ts";
import { audit, connection, inSeconds, upstreamToken } from "./samples.ts";

const { userId: ownerId, routeId, upstream } = connection;
const account = "service-account/ci";
const given = audit("delegation.created");

/** An account that requests Alice's existing connection. */
async function ask(store: Store): Promise<{ grantId: string; ownerId: string; routeId: string }> {
  const grantId = crypto.randomUUID();
  await askForDelegation(store, {
    grantId,
    account,
    ownerId,
    routeIds: [routeId],
    expiresAt: inSeconds(3600),
  });
  await store.upstreamTokens.put(upstreamToken(), audit("upstream_token.obtained"));
  return { grantId, ownerId, routeId };
}
const actionsOf = async (store: Store, grantId: string) =>
  (await store.auditEvents({ limit: 1000 })).filter((one) => one.grantId === grantId);
const ofGrant = (grantId: string) => (change: Change) =>
  change.table === "grant" && change.grantId === grantId;

describeStore("delegated connections", (store) => {
  let which: Awaited<ReturnType<typeof ask>>;
  beforeEach(async () => {
    await store().delegations.endAllOf(ownerId, "the test before");
    which = await ask(store());
  });
  const give = (over = {}) =>
    store().delegations.give({ ...which, upstream, ...over }, { ...given, grantId: which.grantId });
  const delegated = async () => (await store().delegations.ofGrant(which.grantId)).map((one) => one.upstream);

  it("are requested first, given by their owner, and visible to both", async () => {
    expect(await delegated()).toEqual([undefined]);
    expect(await give()).toBe(true);
    expect(await store().delegations.ofGrant(which.grantId)).toEqual([
      expect.objectContaining({ ...which, account, upstream, delegatedAt: expect.any(Date) }),
    ]);
    const mine = await store().delegations.ofOwner(ownerId);
    expect(mine.find(({ grantId }) => grantId === which.grantId)).toMatchObject({ account, upstream });
    expect(await rowsOf(store().delegations.owners())).toEqual([ownerId]);
    expect(await actionsOf(store(), which.grantId)).toMatchObject([{ action: "delegation.created" }]);
  });

  it("are requested and audited together with their grant, or there is no grant", async () => {
    const grantId = crypto.randomUUID();
    const asked = { grantId, account, ownerId, routeIds: [routeId, routeId], expiresAt: inSeconds(3600) };
    await expect(askForDelegation(store(), asked)).rejects.toThrow();
    expect(await store().authorizationServerRecords.find("Grant", grantId)).toBeUndefined();
    expect(await store().delegations.ofGrant(grantId)).toEqual([]);
  });

  it.each([
    ["another owner", { ownerId: "company/bob" }],
    ["a route that was not requested", { routeId: "mail" }],
    ["an upstream where the owner has no connection", { upstream: "https://other.example.com/mcp" }],
    ["an unknown account", { grantId: "nobody" }],
  ])("are not given by or for %s", async (_whom, over) => {
    await store().upstreamTokens.put(
      upstreamToken({ userId: "company/bob" }),
      audit("upstream_token.obtained"),
    );
    expect(await give(over)).toBe(false);
    expect(await delegated()).toEqual([undefined]);
    expect(await actionsOf(store(), which.grantId)).toEqual([]);
  });

  it("are ended by their owner only, once", async () => {
    await give();
    const ended = audit("delegation.ended");
    expect(await store().delegations.end({ ...which, ownerId: "company/bob" }, ended)).toBe(false);
    expect(await delegated()).toEqual([upstream]);
    expect(await store().delegations.end(which, ended)).toBe(true);
    expect(await store().delegations.end(which, ended)).toBe(false);
    expect(await delegated()).toEqual([undefined]);
  });

  it("end when the owner disconnects, and do not come back with the next consent", async () => {
    await give();
    await store().upstreamTokens.delete(connection, audit("upstream_token.disconnected"));
    await store().upstreamTokens.put(upstreamToken(), audit("upstream_token.obtained"));
    expect(await delegated()).toEqual([undefined]);
    expect((await actionsOf(store(), which.grantId)).map(({ action }) => action)).toEqual([
      "delegation.created",
      "delegation.ended",
    ]);
  });

  it("outlive a rejected token: they work again when the owner reconnects", async () => {
    const version = (await store().upstreamTokens.find(connection))?.version ?? 0;
    await give();
    await store().upstreamTokens.deleteVersion(connection, version, audit("upstream_token.rejected"));
    expect(await delegated()).toEqual([upstream]);
  });

  it("end with the service account, and with the owner", async () => {
    await give();
    const { grantId } = which;
    const payload = { accountId: account };
    await store().authorizationServerRecords.upsert({ model: "Grant", id: grantId, payload });
    await store().authorizationServerRecords.revokeGrant(grantId, audit("service_account.revoked"));
    expect(await store().delegations.ofGrant(grantId)).toEqual([]);

    which = await ask(store());
    await give();
    expect(await store().delegations.endAllOf(ownerId, "the user no longer has access")).toBe(1);
    expect(await delegated()).toEqual([undefined]);
  });

  it("end when the account has expired", async () => {
    await give();
    await store().removeExpired(inSeconds(7200));
    expect(await store().delegations.ofGrant(which.grantId)).toEqual([]);
  });
});

describe("delegated connections, two replicas", () => {
  it("the other replica is notified when a delegation is given and ended", async () => {
    const backend = await backends.postgres();
    const [here, there] = await Promise.all([backend.open(), backend.open()]);
    try {
      const which = await ask(here);
      for (const act of [
        () => here.delegations.give({ ...which, upstream }, given),
        () => here.delegations.end(which, audit("delegation.ended")),
        () => here.delegations.give({ ...which, upstream }, given),
        () => here.upstreamTokens.delete(connection, audit("upstream_token.disconnected")),
      ]) {
        const { next, stop } = changes(there, ofGrant(which.grantId));
        await act();
        expect(await next).toEqual({ table: "grant", grantId: which.grantId });
        stop();
      }
    } finally {
      await Promise.all([here.close(), there.close()]);
      await backend.close();
    }
  });

  it("a concurrent disconnect ends the delegation, in either order", async () => {
    const backend = await backends.postgres();
    const [here, there] = await Promise.all([backend.open(), backend.open()]);
    try {
      for (let round = 0; round < 20; round++) {
        const which = await ask(here);
        await Promise.all([
          here.delegations.give({ ...which, upstream }, given),
          there.upstreamTokens.delete(connection, audit("upstream_token.disconnected")),
        ]);
        const [left] = await here.delegations.ofGrant(which.grantId);
        expect(left?.upstream).toBeUndefined();
      }
    } finally {
      await Promise.all([here.close(), there.close()]);
      await backend.close();
    }
  });
});
