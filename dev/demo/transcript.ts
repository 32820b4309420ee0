/** Prints the steps of a run as they happen. */
export interface Transcript {
  /** Runs one step and prints its name, duration and result (the text it returns). */
  step<T extends string | { found: string }>(name: string, run: () => Promise<T>): Promise<T>;
  /** Observes a client's requests: each one for which `nameOf` returns a name becomes a step. */
  observe(
    fetch: typeof globalThis.fetch,
    nameOf: (method: string, url: URL, body: string) => string | undefined,
  ): typeof globalThis.fetch;
  /** Names of the completed steps. */
  readonly done: readonly string[];
  /** The step under way, or the last one begun: the one that a failure belongs to. */
  current(): string;
}

/** Numbers steps from 1. A step that throws stays `current`. */
export function transcript(write: (line: string) => void): Transcript {
  const done: string[] = [];
  let current = "start";
  let failed: string | undefined;
  function line(mark: string, name: string, since: number, found: string): void {
    const number = String(done.length).padStart(2);
    const time = `${Math.round(performance.now() - since)} ms`;
    write(`${mark} ${number}. ${name.padEnd(34)} ${time.padStart(8)}  ${found}`);
  }
  return {
    done,
    current: () => failed ?? current,
    async step(name, run) {
      const since = performance.now();
      current = name;
      const result = await run().catch((error: unknown) => {
        // The innermost step is the one that failed.
        failed ??= name;
        throw error;
      });
      done.push(name);
      line("✓", name, since, typeof result === "string" ? result : result.found);
      return result;
    },
    observe: (fetch, nameOf) => async (input, init) => {
      const url = new URL(input instanceof Request ? input.url : input);
      const method = init?.method ?? "GET";
      const name = nameOf(method, url, typeof init?.body === "string" ? init.body : String(init?.body ?? ""));
      if (!name) return fetch(input, init);
      const since = performance.now();
      current = name;
      const response = await fetch(input, init).catch((error: unknown) => {
        failed ??= name;
        throw error;
      });
      done.push(name);
      line(response.status < 500 ? "✓" : "✗", name, since, `${method} ${url.pathname} -> ${response.status}`);
      return response;
    },
  };
}
