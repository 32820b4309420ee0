import { isOpen, type Target } from "../report/target.ts";
import { sampleSpeed } from "../world/noise.ts";

/** How many more rounds than asked for a target may take whose rounds differ too much. */
export const patience = 4;

/**
 * Runs every subject once per round, round after round, each round in another order: whatever else the machine does meets all
 * alike. Goes on beyond `rounds`, up to four times as many, until the rounds decide every target.
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
  for (let round = 0; round < rounds * patience; round++) {
    if (round >= rounds && !targets(results).some(isOpen)) break;
    for (let index = 0; index < names.length; index++) {
      const name = names[(index + round) % names.length];
      sampleSpeed();
      if (name !== undefined) results[name].push(await subjects[name]());
    }
  }
  return results;
}
