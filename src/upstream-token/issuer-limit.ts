/** Runs at most `max` tasks per issuer at a time; the others wait their turn, first come, first served. */
export function createIssuerLimit(max: number): <T>(issuer: string, task: () => Promise<T>) => Promise<T> {
  const lanes = new Map<string, { running: number; waiting: (() => void)[] }>();
  return async (issuer, task) => {
    const lane = lanes.get(issuer) ?? { running: 0, waiting: [] };
    lanes.set(issuer, lane);
    if (lane.running >= max) await new Promise<void>((resolve) => lane.waiting.push(resolve));
    else lane.running++;
    try {
      return await task();
    } finally {
      const next = lane.waiting.shift();
      if (next) next();
      else if (--lane.running === 0) lanes.delete(issuer);
    }
  };
}
