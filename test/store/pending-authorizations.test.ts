import { expect, it } from "vitest";
import { describeStore } from "./describe-store.ts";
import { inSeconds } from "./samples.ts";

describeStore("pending authorizations", (store) => {
  const create = (state: string, seconds = 60) =>
    store().pendingAuthorizations.create({
      kind: "upstream",
      state,
      userId: "company/alice",
      expiresAt: inSeconds(seconds),
      payload: { verifier: "v" },
    });

  it("gives the row to only one of 20 concurrent callers that consume a state", async () => {
    await create("state-1");
    expect(await store().pendingAuthorizations.find("upstream", "state-1")).toMatchObject({
      userId: "company/alice",
      payload: { verifier: "v" },
    });
    const rows = await Promise.all(
      Array.from({ length: 20 }, () => store().pendingAuthorizations.consume("upstream", "state-1")),
    );
    expect(rows.filter((row) => row !== undefined)).toMatchObject([
      { state: "state-1", payload: { verifier: "v" } },
    ]);
  });

  it("limits.pending_authorizations_per_user: drops the oldest of the same user only", async () => {
    const begin = (userId: string, state: string, seconds: number) =>
      store().pendingAuthorizations.create(
        { kind: "upstream", state, userId, expiresAt: inSeconds(seconds), payload: {} },
        3,
      );
    expect(await begin("company/carol", "carol-1", 60)).toBe(0);
    for (const number of [1, 2, 3]) expect(await begin("company/bob", `bob-${number}`, 60 + number)).toBe(0);
    expect(await begin("company/bob", "bob-4", 64)).toBe(1);
    const left = await Promise.all(
      ["carol-1", "bob-1", "bob-2", "bob-3", "bob-4"].map(
        async (state) => (await store().pendingAuthorizations.find("upstream", state)) !== undefined,
      ),
    );
    expect(left).toEqual([true, false, true, true, true]);
  });

  it("does not return an expired one, or one of another kind", async () => {
    await create("state-2", -1);
    await create("state-3");
    expect(await store().pendingAuthorizations.find("upstream", "state-2")).toBeUndefined();
    expect(await store().pendingAuthorizations.consume("upstream", "state-2")).toBeUndefined();
    expect(await store().pendingAuthorizations.consume("handover", "state-3")).toBeUndefined();
    expect(await store().pendingAuthorizations.consume("upstream", "state-3")).toBeDefined();
  });
});
