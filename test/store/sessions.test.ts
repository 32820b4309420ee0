import { expect, it } from "vitest";
import { secretName } from "../../src/store/secret-name.ts";
import { describeStore } from "./describe-store.ts";
import { inSeconds } from "./samples.ts";

describeStore("sessions (F3.5)", (store) => {
  const session = (id: string, over = {}) => ({
    id,
    host: "gateway.example",
    userId: "company/alice",
    createdAt: new Date(),
    expiresAt: inSeconds(60),
    ...over,
  });

  it("ends the whole family at sign-out, from whichever host, and nobody else's", async () => {
    const sessions = store().browserSessions;
    const parentName = secretName("parent");
    await sessions.create(session("parent"));
    await sessions.create(session("child-1", { parentName }));
    await sessions.create(session("child-2", { parentName }));
    await sessions.create(session("other"));
    expect(await sessions.find("child-1")).toMatchObject({ id: "child-1", parentName });
    expect(await sessions.isLive(parentName)).toBe(true);
    await sessions.end("child-1");
    for (const id of ["parent", "child-1", "child-2"]) expect(await sessions.find(id)).toBeUndefined();
    expect(await sessions.isLive(parentName)).toBe(false);
    expect(await sessions.find("other")).toBeDefined();
    await sessions.create(session("late-child", { parentName }));
    expect(await sessions.find("late-child")).toBeUndefined();
    await sessions.endForUser("company/alice");
    expect(await sessions.find("other")).toBeUndefined();
  });

  it("does not find an expired one", async () => {
    await store().browserSessions.create(session("old", { expiresAt: inSeconds(-1) }));
    expect(await store().browserSessions.find("old")).toBeUndefined();
  });

  it("keeps the newest sign-in of a person", async () => {
    const signIn = {
      userId: "company/alice",
      providerId: "company",
      subject: "alice",
      sid: "sid-1",
      groups: ["staff"],
      claims: { department: "x" },
      refreshToken: "secret-provider-refresh",
      checkedAt: new Date(),
    };
    await store().signInSessions.put(signIn);
    await store().signInSessions.put({ ...signIn, groups: ["staff", "admins"] });
    expect(await store().signInSessions.find("company/alice")).toEqual({
      ...signIn,
      groups: ["staff", "admins"],
    });
    await store().signInSessions.delete("company/alice");
    expect(await store().signInSessions.find("company/alice")).toBeUndefined();
  });
});
