import { expect, it } from "vitest";
import { describeStore } from "./describe-store.ts";
import { inSeconds } from "./samples.ts";

describeStore("pending authorizations (F3.5, F4.3)", (store) => {
  const create = (state: string, seconds = 60) =>
    store().pendingAuthorizations.create({
      kind: "upstream",
      state,
      userId: "company/alice",
      expiresAt: inSeconds(seconds),
      payload: { verifier: "v" },
    });

  it("gives one of 20 who consume a state at once the row", async () => {
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

  it("does not give an expired one, nor one of another kind", async () => {
    await create("state-2", -1);
    await create("state-3");
    expect(await store().pendingAuthorizations.find("upstream", "state-2")).toBeUndefined();
    expect(await store().pendingAuthorizations.consume("upstream", "state-2")).toBeUndefined();
    expect(await store().pendingAuthorizations.consume("handover", "state-3")).toBeUndefined();
    expect(await store().pendingAuthorizations.consume("upstream", "state-3")).toBeDefined();
  });
});
