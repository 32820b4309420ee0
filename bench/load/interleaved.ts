/**
 * Runs every subject once per round, round after round, each round in another order: whatever else the machine does meets all
 * alike.
 */
export async function interleaved<Name extends string, T>(
  rounds: number,
  subjects: Readonly<Record<Name, () => Promise<T>>>,
): Promise<Record<Name, T[]>> {
  const names = Object.keys(subjects) as Name[];
  const results = Object.fromEntries(names.map((name) => [name, [] as T[]])) as Record<Name, T[]>;
  for (let round = 0; round < rounds; round++) {
    for (let index = 0; index < names.length; index++) {
      const name = names[(index + round) % names.length];
      if (name !== undefined) results[name].push(await subjects[name]());
    }
  }
  return results;
}
