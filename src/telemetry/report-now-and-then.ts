/** The least time between two lines about the same thing, ms. */
const quietMs = 10_000;

/**
 * For what strangers can cause at any rate: reports at once, then at most every ten seconds, with how often it has happened
 * since the report before.
 *
 * @param report gets the number of occurrences that it speaks for, itself included.
 */
export function reportNowAndThen(report: (times: number) => void): () => void {
  let quietUntil = 0;
  let times = 0;
  return () => {
    times += 1;
    const now = performance.now();
    if (now < quietUntil) return;
    quietUntil = now + quietMs;
    report(times);
    times = 0;
  };
}
