import { expect, it } from "vitest";
import { describeStore } from "./describe-store.ts";

const session = { userId: "company/alice", routeId: "files", sessionId: "s-1" };

describeStore("sessions whose client can show a URL", (store) => {
  it("are known by user, route and id together", async () => {
    const { elicitationSessions } = store();
    await elicitationSessions.record(session);
    await elicitationSessions.record(session);
    expect(await elicitationSessions.has(session)).toBe(true);
    for (const other of [{ userId: "company/bob" }, { routeId: "notes" }, { sessionId: "s-2" }])
      expect(await elicitationSessions.has({ ...session, ...other })).toBe(false);
  });

  it("are forgotten beyond the newest hundred of a user; other users keep theirs", async () => {
    const { elicitationSessions } = store();
    await elicitationSessions.record({ ...session, userId: "company/bob" });
    for (let n = 0; n <= 100; n++) await elicitationSessions.record({ ...session, sessionId: `n-${n}` });
    expect(await elicitationSessions.has({ ...session, sessionId: "n-0" })).toBe(false);
    for (const sessionId of ["n-1", "n-100"])
      expect(await elicitationSessions.has({ ...session, sessionId })).toBe(true);
    expect(await elicitationSessions.has({ ...session, userId: "company/bob" })).toBe(true);
  });
});
