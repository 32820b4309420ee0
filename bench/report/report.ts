import type { Round } from "../load/load.ts";
import { type Figure, figure } from "./figure.ts";
import type { Target } from "./target.ts";

/** One line of a table: what was measured and what came out, by column. */
export interface Line {
  readonly name: string;
  readonly figures: Readonly<Record<string, Figure | number | string>>;
}
/** One table. */
export interface Table {
  readonly title: string;
  /** How it was measured, one sentence or two. */
  readonly note: string;
  readonly lines: readonly Line[];
}
export interface Report {
  readonly tables: readonly Table[];
  readonly targets: readonly Target[];
}

/** The figures of several rounds of one thing. */
export function roundsLine(name: string, rounds: readonly Round[], against?: readonly Round[]): Line {
  const of = (key: keyof Round) => figure(rounds.map((round) => round[key]));
  const perSecond = of("perSecond");
  return {
    name,
    figures: {
      "calls/s": perSecond,
      "p50 ms": of("p50"),
      "p99 ms": of("p99"),
      "CPU µs/call": of("cpuMicros"),
      ...(against && { ratio: ratio(rounds, against, "perSecond") }),
      errors: rounds.reduce((sum, round) => sum + round.errors, 0),
    },
  };
}

/** The ratios of rounds that ran one after the other: what disturbed one disturbed the other. */
export function ratio(rounds: readonly Round[], against: readonly Round[], key: keyof Round): Figure {
  return figure(rounds.map((round, index) => round[key] / (against[index]?.[key] ?? Number.NaN)));
}

/** The differences of rounds that ran one after the other. */
export function difference(rounds: readonly Round[], against: readonly Round[], key: keyof Round): Figure {
  return figure(rounds.map((round, index) => round[key] - (against[index]?.[key] ?? Number.NaN)));
}
