import { describe, expect, test } from "vitest";
import type { Change } from "../../src/store/notifications/notifications.ts";
import { createPeople } from "../../src/store/people.ts";
import type { SignInSession } from "../../src/store/sign-in-sessions.ts";

const userId = "company/alice";
const record = (groups: readonly string[]): SignInSession => ({
  userId,
  providerId: "company",
  subject: "alice",
  groups,
  claims: {},
  checkedAt: new Date(),
});

/** A store whose responses and notifications the test controls. */
function scripted(options: { entries?: number; bytes?: number } = {}) {
  const listeners = new Set<(change: Change) => void>();
  const state = { healthy: true, record: record(["before"]) as SignInSession | undefined, reads: 0 };
  let gate: Promise<void> | undefined;
  const people = createPeople({
    store: {
      notifications: {
        subscribe(listener) {
          listeners.add(listener);
          return () => listeners.delete(listener);
        },
        healthy: () => state.healthy,
      },
      signInSessions: {
        async find(id: string) {
          state.reads++;
          const found = state.record && { ...state.record, userId: id };
          await gate;
          return found;
        },
      } as never,
    },
    limits: { entries: options.entries ?? 10, bytes: options.bytes ?? 100_000 },
  });
  return {
    people,
    state,
    hold() {
      const { promise, resolve } = Promise.withResolvers<void>();
      gate = promise;
      return () => {
        gate = undefined;
        resolve();
      };
    },
    notify: (change: Change) => {
      for (const listener of listeners) listener(change);
    },
  };
}
const changed: Change = { table: "browser_session", userId };

describe("people by their sign-in records", () => {
  test("a cached person is returned synchronously, and is the same object until the record changes", async () => {
    const { people, state, notify } = scripted();
    const first = await people.find(userId);
    expect(people.find(userId)).toBe(first);
    expect(state.reads).toBe(1);
    state.record = record(["after"]);
    notify(changed);
    expect(await people.find(userId)).toMatchObject({ groups: ["after"] });
    expect(state.reads).toBe(2);
  });

  test.each<Change>([changed, { table: "everything" }])(
    "a record that changes while it is read is not cached",
    async (change) => {
      const { people, state, hold, notify } = scripted();
      const release = hold();
      const old = people.find(userId);
      state.record = record(["after"]);
      notify(change);
      // A caller after the change does not share the earlier result.
      const current = people.find(userId);
      release();
      expect(await old).toMatchObject({ groups: ["before"] });
      expect(await current).toMatchObject({ groups: ["after"] });
      expect(await people.find(userId)).toMatchObject({ groups: ["after"] });
    },
  );

  test("a person whose record is gone does not stay cached", async () => {
    const { people, state, notify } = scripted();
    await people.find(userId);
    state.record = undefined;
    notify(changed);
    expect(await people.find(userId)).toBeUndefined();
    // Nor is a person who signs in a moment later missing.
    state.record = record(["again"]);
    expect(await people.find(userId)).toMatchObject({ groups: ["again"] });
  });

  test("while notifications do not arrive, the store is asked each time", async () => {
    const { people, state } = scripted();
    await people.find(userId);
    state.healthy = false;
    state.record = record(["after"]);
    expect(await people.find(userId)).toMatchObject({ groups: ["after"] });
    expect(await people.find(userId)).toMatchObject({ groups: ["after"] });
    expect(state.reads).toBe(3);
  });

  test("concurrent requests for one person share one read", async () => {
    const { people, state } = scripted();
    await Promise.all(Array.from({ length: 20 }, () => people.find(userId)));
    expect(state.reads).toBe(1);
  });

  test("limits the number of people and bytes", async () => {
    const few = scripted({ entries: 2 });
    for (const id of ["a", "b", "c", "a"]) await few.people.find(`company/${id}`);
    expect(few.state.reads).toBe(4);
    const small = scripted({ bytes: 20_000 });
    small.state.record = record(Array.from({ length: 300 }, (_, index) => `team-${index}`));
    for (const id of ["a", "b", "a"]) await small.people.find(`company/${id}`);
    expect(small.state.reads).toBe(3);
  });
});
