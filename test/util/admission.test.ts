import { describe, expect, it } from "vitest";
import { Admission } from "../../src/util/admission.ts";

const waitMs = 500;

/** Fills all places and the queue with tasks that do not end until `end` is called. */
function full() {
  const admission = new Admission(() => waitMs);
  const ended = Promise.withResolvers<void>();
  const begun: number[] = [];
  const tasks: Promise<void>[] = [];
  while (admission.turnAway() === undefined) {
    const number = tasks.length;
    tasks.push(
      admission.run(() => {
        begun.push(number);
        return ended.promise;
      }),
    );
    expect(number).toBeLessThan(10_000);
  }
  return { admission, begun, tasks, end: ended.resolve };
}

describe("admission control", () => {
  it("begins a bounded number of tasks, and turns callers away whose turn would come too late", async () => {
    const { admission, begun, tasks, end } = full();
    expect(begun).toHaveLength(32);
    // Two milliseconds each are assumed until it is measured.
    expect(tasks.length).toBeLessThanOrEqual(32 + waitMs / 2);
    expect(tasks.length).toBeGreaterThan(100);
    end();
    await Promise.all(tasks);
    expect(begun).toEqual(tasks.map((_task, index) => index));
    expect(admission.turnAway()).toBeUndefined();
  });

  it("turns away earlier when tasks do not end", () => {
    const { admission, tasks } = full();
    const halfFull = new Admission(() => waitMs);
    for (let index = 0; index < 100; index++) void halfFull.run(() => new Promise(() => {}));
    const now = performance.now();
    expect(halfFull.turnAway(false, now)).toBeUndefined();
    expect(halfFull.turnAway(false, now + 1_000)).toBeGreaterThanOrEqual(1);
    expect(tasks.length).toBeGreaterThan(100);
    expect(admission.turnAway()).toBeGreaterThanOrEqual(1);
  });

  it("begins tasks of known callers first, and does not turn them away for the others", async () => {
    const { admission, begun, tasks, end } = full();
    expect(admission.turnAway()).toBeGreaterThanOrEqual(1);
    expect(admission.turnAway(true)).toBeUndefined();
    let before = -1;
    const known = admission.run(async () => {
      before = begun.length;
    }, true);
    end();
    await Promise.all([known, ...tasks]);
    expect(before).toBeGreaterThanOrEqual(32);
    expect(before).toBeLessThanOrEqual(64);
    expect(begun.length).toBeGreaterThan(100);
  });

  it("a task that fails gives its place back", async () => {
    const admission = new Admission(() => waitMs);
    for (let index = 0; index < 100; index++)
      await expect(admission.run(() => Promise.reject(new Error("no")))).rejects.toThrow("no");
    let ran = false;
    await admission.run(async () => {
      ran = true;
    });
    expect(ran).toBe(true);
  });

  it("Retry-After grows with those who wait, is spread, ends after a minute, and shrinks when they are gone", () => {
    const admission = new Admission(() => waitMs);
    const now = performance.now();
    const ask = (count: number, at: number) =>
      Array.from({ length: count }, () => admission.retryAfterSeconds(at));
    expect(Math.max(...ask(100, now))).toBeLessThanOrEqual(2);
    ask(10_000, now);
    const many = ask(1_000, now);
    expect(Math.max(...many)).toBeGreaterThan(20);
    expect(Math.min(...many)).toBeGreaterThanOrEqual(1);
    const bySecond = [...Map.groupBy(many, (seconds) => seconds).values()];
    const inOneSecond = Math.max(...bySecond.map((clients) => clients.length));
    expect(inOneSecond).toBeLessThan(100);
    ask(100_000, now);
    expect(Math.max(...ask(1_000, now))).toBeLessThanOrEqual(60);
    expect(Math.max(...ask(100, now + 300_000))).toBeLessThanOrEqual(2);
  });
});
