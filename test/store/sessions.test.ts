import { expect, it } from "vitest";
import { hashedHandle } from "../../src/store/hashed-handle.ts";
import { changes } from "./changes.ts";
import { describeStore } from "./describe-store.ts";
import { inSeconds } from "./samples.ts";

describeStore("sessions", (store) => {
  const session = (id: string, over = {}) => ({
    id,
    host: "gateway.example",
    userId: "company/alice",
    createdAt: new Date(),
    expiresAt: inSeconds(60),
    ...over,
  });

  it("ends the whole family of sessions at sign-out, from any host, and no other sessions", async () => {
    const sessions = store().browserSessions;
    const parentName = hashedHandle("parent");
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

  it("does not find an expired session", async () => {
    await store().browserSessions.create(session("old", { expiresAt: inSeconds(-1) }));
    expect(await store().browserSessions.find("old")).toBeUndefined();
  });

  it("stores the newest sign-in of a person", async () => {
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
    await store().endAccessOfPerson("company/alice", { action: "person.signed_out" });
    expect(await store().signInSessions.find("company/alice")).toBeUndefined();
  });

  it("finds a sign-in by the provider's session id, and lets one replica claim the next check", async () => {
    const { signInSessions } = store();
    const checkedAt = inSeconds(-3600);
    const signIn = {
      userId: "company/carol",
      providerId: "company",
      subject: "carol",
      sid: "sid-carol",
      groups: [],
      claims: {},
      checkedAt,
    };
    const heard = changes(store(), (change) => "userId" in change && change.userId === signIn.userId);
    await signInSessions.put(signIn);
    expect(await heard.next).toEqual({ table: "browser_session", userId: "company/carol" });
    heard.stop();
    expect(await signInSessions.findBySid("company", "sid-carol")).toEqual(signIn);
    expect(await signInSessions.findBySid("partner", "sid-carol")).toBeUndefined();
    const claims = await Promise.all(
      [1, 2, 3].map((n) => signInSessions.claimCheck("company/carol", checkedAt, inSeconds(-n))),
    );
    expect(claims.filter(Boolean)).toHaveLength(1);
  });
});
