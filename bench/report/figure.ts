import { percentile } from "../load/percentile.ts";

/** One measured figure: the median of its rounds, and between which values they lay. */
export interface Figure {
  readonly median: number;
  readonly least: number;
  readonly most: number;
  readonly values: readonly number[];
  /** Where the true median lies with 95 % confidence; of fewer than six rounds, all of them. */
  readonly surely: readonly [number, number];
}

export function figure(values: readonly number[]): Figure {
  return {
    median: percentile(values, 0.5),
    least: Math.min(...values),
    most: Math.max(...values),
    values,
    surely: intervalOfMedian(values),
  };
}

/** The order statistics that enclose the median with 95 % confidence, whatever the distribution. */
function intervalOfMedian(values: readonly number[]): readonly [number, number] {
  const sorted = values.toSorted((a, b) => a - b);
  const rounds = sorted.length;
  let outside = 0;
  let skipped = 0;
  // Probability that at most `skipped` of the rounds are below the median: binomial with one half.
  for (let term = 0.5 ** rounds; skipped < rounds / 2; skipped++) {
    outside += term;
    if (outside > 0.025) break;
    term *= (rounds - skipped) / (skipped + 1);
  }
  const first = Math.max(0, skipped - 1);
  return [sorted[first] ?? Number.NaN, sorted[rounds - 1 - first] ?? Number.NaN];
}
