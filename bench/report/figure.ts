import { percentile } from "../load/percentile.ts";

/** One measured figure: the median of its rounds, and between which values they lay. */
export interface Figure {
  readonly median: number;
  readonly least: number;
  readonly most: number;
  readonly rounds: number;
}

export function figure(values: readonly number[]): Figure {
  return {
    median: percentile(values, 0.5),
    least: Math.min(...values),
    most: Math.max(...values),
    rounds: values.length,
  };
}
