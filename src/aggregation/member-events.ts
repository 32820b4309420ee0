import { setTimeout as wait } from "node:timers/promises";

/** Longest event of a member's stream, bytes. The SDK's parser keeps an incomplete one, without a limit. */
export const maxEventBytes = 2 * 1024 * 1024;
/** What one stream of a member may send on the average, per second; more waits at the member. */
export const eventRate = { events: 100, bytes: 1024 * 1024 } as const;
/** How much may arrive at once before that, as seconds of the average. */
const burstSeconds = 4;

/** An event of a member is longer than `maxEventBytes`. */
export class EventTooLong extends Error {
  constructor() {
    super(`an event of its stream is longer than ${maxEventBytes} bytes`);
  }
}

const lineFeed = 10;
const carriageReturn = 13;

/** Splits an event stream (HTML, "Server-sent events": lines end with CR, LF or both; an empty one ends an event). */
class EventCounter {
  #eventBytes = 0;
  #lineIsEmpty = true;
  #previous = 0;

  /** @returns how many events end in the chunk @throws EventTooLong */
  count(chunk: Uint8Array): number {
    let events = 0;
    for (const byte of chunk) {
      this.#eventBytes += 1;
      if (byte === lineFeed || byte === carriageReturn) {
        const sameEnd = byte === lineFeed && this.#previous === carriageReturn;
        if (this.#lineIsEmpty && !sameEnd) {
          this.#eventBytes = 0;
          events += 1;
        }
        this.#lineIsEmpty = true;
      } else this.#lineIsEmpty = false;
      if (this.#eventBytes > maxEventBytes) throw new EventTooLong();
      this.#previous = byte;
    }
    return events;
  }
}

/**
 * An event stream without an end: its events are bounded in length, and in number and bytes per second. What comes faster is read later,
 * so that neither this replica nor the client has to keep it.
 */
export function boundedEvents(body: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  const counter = new EventCounter();
  const cancelled = new AbortController();
  /** Seconds of the average that have been used, and when that was, ms. */
  let used = 0;
  let at = performance.now();

  async function turn(): Promise<void> {
    const now = performance.now();
    used = Math.max(0, used - (now - at) / 1000);
    at = now;
    const ms = (used - burstSeconds) * 1000;
    if (ms > 0) await wait(ms, undefined, { signal: cancelled.signal, ref: false }).catch(() => {});
  }

  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        await turn();
        const { done, value } = await reader.read();
        if (done) return controller.close();
        try {
          used += Math.max(counter.count(value) / eventRate.events, value.byteLength / eventRate.bytes);
          controller.enqueue(value);
        } catch (error) {
          await reader.cancel(error).catch(() => {});
          throw error;
        }
      },
      cancel(reason) {
        cancelled.abort();
        return reader.cancel(reason);
      },
    },
    { highWaterMark: 0 },
  );
}
