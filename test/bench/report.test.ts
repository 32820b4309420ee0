import { describe, expect, it } from "vitest";
import { interleaved } from "../../bench/load/interleaved.ts";
import { figure } from "../../bench/report/figure.ts";
import { markdown } from "../../bench/report/markdown.ts";
import { type Target, verdict } from "../../bench/report/target.ts";
import { describeNoise } from "../../bench/world/noise.ts";

const steady = [0.52, 0.53, 0.51, 0.54, 0.52, 0.53];
const scattered = [0.31, 0.7, 0.45, 0.62, 0.38, 0.55];
const target = (values: readonly number[], wanted: Target["wanted"] = { atLeast: 0.5 }): Target => ({
  name: "throughput",
  wanted,
  measured: figure(values),
});

describe("a benchmark's judgement", () => {
  it("counts a target as met or missed only if the median surely lies on that side", () => {
    expect(verdict(target(steady))).toBe("met");
    expect(verdict(target(steady.map((value) => value - 0.1)))).toBe("missed");
    expect(verdict(target(scattered))).toBe("undecided");
    expect(verdict(target(steady.slice(0, 5)))).toBe("undecided");
  });

  it("does not meet a target of every round with one round beyond it", () => {
    const everyRound = { atMost: 3, everyRound: true };
    expect(verdict(target([1, 2, 2.9], everyRound))).toBe("met");
    const missed = target([1, 2, 3.1], everyRound);
    expect(verdict(missed)).toBe("missed");
    expect(markdown({ tables: [], targets: [missed] }, "")).toContain(
      "within it in 2 of 3 rounds | **no** |",
    );
  });

  it("encloses the median of many rounds more narrowly than of few", () => {
    expect(figure([3, 1, 2]).surely).toEqual([1, 3]);
    // With 20 rounds, the sixth and the fifteenth.
    expect(figure(Array.from({ length: 20 }, (_, index) => 20 - index)).surely).toEqual([6, 15]);
  });

  it("repeats rounds until they decide the target, twice and at most four times as many", async () => {
    let rounds = 0;
    const once = { one: async () => scattered[rounds++ % scattered.length] ?? 0 };
    const judge = ({ one }: { one: number[] }) => [target(one.length < 9 ? one : one.map(() => 0.9))];
    expect((await interleaved(6, once, judge)).one).toHaveLength(12);
    expect((await interleaved(6, once, ({ one }) => [target(one, { atLeast: 0.5 })])).one).toHaveLength(24);
    expect((await interleaved(6, once)).one).toHaveLength(6);
  });

  it("says that the machine was not quiet, and what disturbed it", () => {
    expect(describeNoise({ otherPrograms: 0.01, stolen: 0, speedSpread: 0.1 })).toContain(
      "The machine was quiet",
    );
    for (const noise of [
      { otherPrograms: 0.3, stolen: 0, speedSpread: 0.1 },
      { otherPrograms: 0, stolen: 0.05, speedSpread: 0.1 },
      { otherPrograms: 0, stolen: 0, speedSpread: 0.5 },
    ])
      expect(describeNoise(noise)).toContain("**The machine was not quiet**");
    expect(describeNoise({ otherPrograms: 0.3, stolen: 0.02, speedSpread: 0.1 })).toContain(
      "other programs used 30 % of the cores, other virtual machines 2.0 %",
    );
  });
});
