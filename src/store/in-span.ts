/** `telemetry/`'s, as far as the store needs it: a span around a call to the database, where the caller is traced. */
export type InSpan = <T>(
  name: string,
  attributes: Readonly<Record<string, string>>,
  work: () => Promise<T>,
) => Promise<T>;
