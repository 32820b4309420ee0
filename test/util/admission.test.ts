import { describe, expect, it } from "vitest";
import { Admission } from "../../src/util/admission.ts";

const waitMs = 500;
const atOnce = 32;
/** Assumed time between two tasks until it is measured, ms. */
const assumedMs = 2;

/** Fills all places and the queue with tasks that do not end until `end` is called; time stands still unless it is moved. */
function full() {
  const clock = { now: 1_000 };
  const admission = new Admission(
    () => waitMs,
    () => clock.now,
  );
  const ended = Promise.withResolvers<void>();
  const begun: number[] = [];
  const tasks: Promise<void>[] = [];
  for (let number = 0; admission.turnAway() === undefined; number++) {
    tasks.push(
      admission.run(() => {
        begun.push(number);
        return ended.promise;
      }),
    );
    expect(number).toBeLessThan(10_000);
  }
  return { admission, begun, clock, tasks, end: ended.resolve };
}

describe("admission control", () => {
  it("begins a bounded number of tasks, and turns callers away whose turn would come too late", async () => {
    const { admission, begun, tasks, end } = full();
    expect(begun).toHaveLength(atOnce);
    expect(tasks).toHaveLength(atOnce + waitMs / assumedMs);
    end();
    await Promise.all(tasks);
    expect(begun).toEqual(tasks.map((_task, index) => index));
    expect(admission.turnAway()).toBeUndefined();
  });

  it("turns away earlier while tasks do not end, and later again when they do", async () => {
    const clock = { now: 1_000 };
    const admission = new Admission(
      () => waitMs,
      () => clock.now,
    );
    const ends: (() => void)[] = [];
    const task = () => new Promise<void>((end) => ends.push(end));
    const tasks = Array.from({ length: 100 }, () => admission.run(task));
    expect(admission.turnAway()).toBeUndefined();
    clock.now += 1_000;
    expect(admission.turnAway()).toBeGreaterThanOrEqual(1);
    for (let ended = 0; ended < tasks.length; ended++) {
      ends[ended]?.();
      await tasks[ended];
    }
    const again = Array.from({ length: 100 }, () => admission.run(task));
    expect(admission.turnAway()).toBeUndefined();
    for (let ended = 0; ended < again.length; ended++) {
      ends[100 + ended]?.();
      await again[ended];
    }
  });

  it("begins tasks of known callers first, but not only, and does not turn them away for the others", async () => {
    const { admission, begun, tasks, end } = full();
    expect(admission.turnAway()).toBeGreaterThanOrEqual(1);
    expect(admission.turnAway(true)).toBeUndefined();
    const before: number[] = [];
    const known = Array.from({ length: 40 }, () =>
      admission.run(async () => {
        before.push(begun.length);
      }, true),
    );
    end();
    await Promise.all([...known, ...tasks]);
    expect(before[0]).toBeLessThanOrEqual(atOnce + 1);
    // Among the 40 known, one turn in four was another's.
    expect((before.at(-1) ?? 0) - atOnce).toBeGreaterThanOrEqual(10);
    expect((before.at(-1) ?? 0) - atOnce).toBeLessThanOrEqual(20);
    expect(begun).toHaveLength(tasks.length);
  });

  it("a task that fails gives its place back", async () => {
    const admission = new Admission(() => waitMs);
    for (let index = 0; index < 100; index++)
      await expect(admission.run(() => Promise.reject(new Error("no")))).rejects.toThrow("no");
    expect(await admission.run(async () => "ran")).toBe("ran");
  });

  it("Retry-After grows with those who were turned away, is spread, ends after a minute, and shrinks when they are gone", () => {
    const clock = { now: 1_000 };
    const admission = new Admission(
      () => waitMs,
      () => clock.now,
    );
    const ask = (count: number) => Array.from({ length: count }, () => admission.retryAfterSeconds());
    const few = ask(100);
    expect(Math.max(...few)).toBeLessThanOrEqual(4);
    expect(new Set(few).size).toBeGreaterThan(1);
    ask(10_000);
    const many = ask(1_000);
    expect(Math.max(...many)).toBeGreaterThan(20);
    expect(Math.min(...many)).toBeGreaterThanOrEqual(1);
    const bySecond = [...Map.groupBy(many, (seconds) => seconds).values()];
    expect(Math.max(...bySecond.map((clients) => clients.length))).toBeLessThan(100);
    ask(100_000);
    expect(Math.max(...ask(1_000))).toBeLessThanOrEqual(60);
    clock.now += 300_000;
    expect(Math.max(...ask(100))).toBeLessThanOrEqual(4);
  });
});
