import type { Figure } from "./figure.ts";

/** A limit for a figure. */
export interface Wanted {
  readonly atLeast?: number;
  readonly atMost?: number;
  /** Not the median, but each round has to keep the limit. */
  readonly everyRound?: boolean;
}

/** One demand of the list of targets, and what was measured. */
export interface Target {
  readonly name: string;
  readonly wanted: Wanted;
  readonly measured: Figure;
  readonly unit?: string;
}

/** `undecided`: the rounds differ so much that the true median may lie on either side of the limit. */
export type Verdict = "met" | "missed" | "undecided";

export function verdict({ wanted, measured }: Target): Verdict {
  if (wanted.everyRound) return keeping(wanted, measured) === measured.values.length ? "met" : "missed";
  // So few enclose nothing with confidence.
  if (measured.values.length > 1 && measured.values.length < 6) return "undecided";
  const sure = measured.surely.map((value) => keeps(wanted, value));
  if (sure.every(Boolean)) return "met";
  return sure.some(Boolean) ? "undecided" : "missed";
}

/** Whether more rounds can still change the answer. */
export function isOpen(target: Target): boolean {
  return !target.wanted.everyRound && verdict(target) === "undecided";
}

/** How many rounds kept the limit. */
export function keeping(wanted: Wanted, measured: Figure): number {
  return measured.values.filter((value) => keeps(wanted, value)).length;
}

function keeps(
  { atLeast = Number.NEGATIVE_INFINITY, atMost = Number.POSITIVE_INFINITY }: Wanted,
  value: number,
) {
  return value >= atLeast && value <= atMost;
}
