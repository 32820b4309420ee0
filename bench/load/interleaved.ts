import { isOpen, type Target } from "../report/target.ts";
import { sampleSpeed } from "../world/noise.ts";

/** Rounds are repeated up to this many times the number asked for. */
export const maxRepetition = 4;

/**
 * Runs every subject once per round, round after round, each round in another order: whatever else the machine does meets all
 * alike. Repeats them, twice and four times as many, until they decide every target.
 *
 * @param targets judges the rounds so far
 */
export async function interleaved<Name extends string, T>(
  rounds: number,
  subjects: Readonly<Record<Name, () => Promise<T>>>,
  targets: (soFar: Record<Name, T[]>) => readonly Target[] = () => [],
): Promise<Record<Name, T[]>> {
  const names = Object.keys(subjects) as Name[];
  const results = Object.fromEntries(names.map((name) => [name, [] as T[]])) as Record<Name, T[]>;
  for (let round = 0; round < rounds * maxRepetition; round++) {
    // Not after every round: looking until it is decided would decide too often by chance.
    if ([1, 2].some((times) => round === times * rounds) && !targets(results).some(isOpen)) break;
    for (let index = 0; index < names.length; index++) {
      const name = names[(index + round) % names.length];
      sampleSpeed();
      if (name !== undefined) results[name].push(await subjects[name]());
    }
  }
  return results;
}
