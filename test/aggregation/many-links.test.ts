import { afterEach, beforeEach, expect, it, vi } from "vitest";
import type { Conversation } from "../../src/aggregation/conversation.ts";
import { sessionWide } from "../../src/aggregation/session-wide.ts";

type Deps = Parameters<typeof sessionWide>[0];

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

it("however many links a client asks for, one look in three seconds tells whether a member is connected", async () => {
  const looked: string[] = [];
  let connected = false;
  const changed: unknown[] = [];
  const naming = { member: { route: { id: "notes" }, prefix: "notes__" } };
  const conversation = { call: { caller: { grantId: "g1" } }, namings: [naming] } as unknown as Conversation;
  // What is looked at for one session; the rest is of no interest here.
  const deps = {
    streams: { of: () => [{ conversation, changed: (lists: unknown) => changed.push(lists) }] },
    calls: {
      async call(_conversation: unknown, _naming: unknown, { method }: { method: string }) {
        looked.push(method);
        if (!connected) throw new Error("not connected");
      },
    },
    grantedMembers: () => new Set(["notes"]),
    mayReach: () => true,
  } as unknown as Deps;
  const wide = sessionWide(deps);
  for (let links = 0; links < 60; links += 1) wide.awaitConsent("session", "notes");
  await vi.advanceTimersByTimeAsync(3_000);
  expect(looked).toEqual(["tools/list"]);
  connected = true;
  await vi.advanceTimersByTimeAsync(3_000);
  expect([looked.length, changed.length, vi.getTimerCount()]).toEqual([2, 1, 0]);

  // A later link, with the time that is left for it.
  connected = false;
  wide.awaitConsent("session", "notes");
  await vi.advanceTimersByTimeAsync(599_000);
  wide.awaitConsent("session", "notes");
  await vi.advanceTimersByTimeAsync(599_000);
  expect(vi.getTimerCount()).toBe(1);
  await vi.advanceTimersByTimeAsync(9_000);
  expect(vi.getTimerCount()).toBe(0);
  wide.close();
});
