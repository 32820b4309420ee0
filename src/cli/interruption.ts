const signals = ["SIGINT", "SIGTERM"] as const;

/**
 * Runs `work` with a signal that aborts on Ctrl-C or SIGTERM, so that it can stop at a safe point. A second one ends the process at
 * once.
 */
export async function untilInterrupted<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const interruption = new AbortController();
  const interrupt = () => {
    if (interruption.signal.aborted) process.exit(1);
    interruption.abort();
  };
  for (const name of signals) process.on(name, interrupt);
  try {
    return await work(interruption.signal);
  } finally {
    for (const name of signals) process.off(name, interrupt);
  }
}
