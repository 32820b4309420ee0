/** A heartbeat that takes longer to come back says nothing about the present. */
const roundTripMs = 500;
const maxUnderWay = 32;

/** Bookkeeping of notifications sent to oneself. Times are monotonic. */
export interface Heartbeats {
  /** Call right before sending; returns what to send. */
  sending(): string;
  /** The database has taken it. */
  sent(id: string): void;
  /** It came back; false: not ours, or from an earlier connection. */
  received(id: string): boolean;
  /** Forgets all: the connection is another. */
  reset(): void;
  /**
   * True only while all changes committed up to one interval and a round trip ago have surely arrived: notifications keep their
   * order, so those before a heartbeat that came back have come, too.
   */
  healthy(): boolean;
  /** How long a heartbeat that the database has taken has been missing. */
  silentMs(): number;
  /** Whether one comes back within `waitMs`. */
  first(waitMs: number): Promise<boolean>;
}

/** @param everyMs interval at which the caller sends */
export function heartbeats(everyMs: number): Heartbeats {
  let count = 0;
  const underWay = new Map<string, { sentAt: number; takenAt?: number }>();
  let freshest = Number.NEGATIVE_INFINITY;
  let waiting: (() => void)[] = [];
  return {
    sending() {
      const id = String(++count);
      // Sends that failed leave entries behind; a few are enough to tell silence from slowness.
      for (const oldest of underWay.keys()) if (underWay.size >= maxUnderWay) underWay.delete(oldest);
      underWay.set(id, { sentAt: performance.now() });
      return id;
    },
    sent(id) {
      const beat = underWay.get(id);
      if (beat) beat.takenAt = performance.now();
    },
    received(id) {
      const beat = underWay.get(id);
      if (beat === undefined) return false;
      // Those before it were lost or never sent.
      for (const earlier of underWay.keys()) if (Number(earlier) <= Number(id)) underWay.delete(earlier);
      if (performance.now() - beat.sentAt <= roundTripMs) freshest = beat.sentAt;
      for (const resolve of waiting) resolve();
      waiting = [];
      return true;
    },
    reset() {
      underWay.clear();
      freshest = Number.NEGATIVE_INFINITY;
    },
    healthy: () => performance.now() - freshest <= everyMs + roundTripMs,
    silentMs() {
      for (const { takenAt } of underWay.values())
        if (takenAt !== undefined) return performance.now() - takenAt;
      return 0;
    },
    first: (waitMs) =>
      new Promise((resolve) => {
        waiting.push(() => resolve(true));
        setTimeout(() => resolve(false), waitMs).unref();
      }),
  };
}
