import { type Filtered, hideTools, type MayShow } from "./tool-list-filter.ts";

/** Collects bytes in its own memory: a slice of a message would keep the whole message. */
export interface ByteBuffer {
  /** Number of bytes. */
  length(): number;
  /** Allocated memory, bytes. */
  capacity(): number;
  append(bytes: Uint8Array): void;
  /** Returns all bytes followed by `bytes`, and empties the buffer. */
  takeWith(bytes: Uint8Array): Buffer;
}

/** Creates an empty buffer. It grows by half, so that each byte is copied only a few times. */
export function byteBuffer(): ByteBuffer {
  let buffer = Buffer.alloc(0);
  let used = 0;
  return {
    length: () => used,
    capacity: () => buffer.length,
    append(bytes) {
      if (bytes.length === 0) return;
      if (used + bytes.length > buffer.length) {
        const larger = Buffer.allocUnsafe(
          Math.max(4096, Math.ceil(1.5 * buffer.length), used + bytes.length),
        );
        buffer.copy(larger, 0, 0, used);
        buffer = larger;
      }
      buffer.set(bytes, used);
      used += bytes.length;
    },
    takeWith(bytes) {
      const all = Buffer.concat([buffer.subarray(0, used), bytes]);
      buffer = Buffer.alloc(0);
      used = 0;
      return all;
    },
  };
}

/** Filters one event stream chunk by chunk. After a result that is not `ok`, end the stream. */
export interface ToolsStreamFilter {
  /** Returns the events that are complete so far; the rest waits for the next chunk. */
  push(chunk: Uint8Array): Filtered;
  /** Returns the rest when the stream has ended. */
  end(): Filtered;
  /** Memory of the waiting bytes. */
  waiting(): number;
}

/**
 * Filters the `text/event-stream` response to a `tools/list` request, and streams on which one may be resumed. Events without a
 * tool list pass byte for byte, including comments, ids and retry times. Each byte is inspected once, even if an upstream sends
 * them one by one.
 *
 * @param maxEventBytes the largest event to wait for, bytes.
 * @param replaceTooLong returns the replacement for a longer event, from its first and last bytes; without it the stream ends there.
 */
export function createToolsStreamFilter(
  mayShow: MayShow,
  maxEventBytes: number,
  replaceTooLong?: (beginning: string, end: string) => string,
): ToolsStreamFilter {
  const waiting = byteBuffer();
  const ends = eventEnds();
  let failed = false;
  let first = true;
  /** The first and last bytes of an event that is too long; its other bytes are dropped. */
  let tooLong: { readonly beginning: string; end: Buffer } | undefined;

  /** @returns false when the stream ends here */
  function keep(bytes: Buffer): boolean {
    if (tooLong) {
      tooLong.end = Buffer.concat([tooLong.end, bytes.subarray(-edgeBytes)]).subarray(-edgeBytes);
      return true;
    }
    waiting.append(bytes);
    if (waiting.length() <= maxEventBytes) return true;
    if (!replaceTooLong) return false;
    const whole = waiting.takeWith(Buffer.alloc(0));
    tooLong = {
      beginning: whole.toString("latin1", 0, edgeBytes),
      end: Buffer.from(whole.subarray(-edgeBytes)),
    };
    return true;
  }
  /** The event that ends with `bytes`. */
  function complete(bytes: Buffer): Buffer {
    if (!tooLong && (!replaceTooLong || waiting.length() + bytes.length <= maxEventBytes))
      return waiting.length() === 0 ? bytes : waiting.takeWith(bytes);
    keep(bytes);
    const replacement =
      replaceTooLong?.(tooLong?.beginning ?? "", tooLong?.end.toString("latin1") ?? "") ?? "";
    tooLong = undefined;
    return Buffer.from(`event: message\ndata: ${replacement}\n\n`);
  }

  function take(events: readonly Buffer[]): Filtered {
    const out: Uint8Array[] = [];
    for (const bytes of events) {
      // One character per byte: line ends are found without decoding, and what passes stays unchanged.
      const event = bytes.toString("latin1");
      const filtered = filterEvent(first ? event.replace(/^\xEF\xBB\xBF/, "") : event, mayShow);
      if (filtered === undefined) {
        failed = true;
        return { ok: false };
      }
      out.push(filtered === event ? bytes : Buffer.from(filtered, "latin1"));
      first = false;
    }
    return { ok: true, body: Buffer.concat(out) };
  }

  return {
    // A dropped event is subject to the timeout, too.
    waiting: () => (tooLong ? edgeBytes : waiting.capacity()),
    push(chunk) {
      if (failed) return { ok: false };
      const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
      const events: Buffer[] = [];
      let from = 0;
      for (const end of ends(bytes)) {
        events.push(complete(bytes.subarray(from, end)));
        from = end;
      }
      if (!keep(bytes.subarray(from))) {
        failed = true;
        return { ok: false };
      }
      return take(events);
    },
    end() {
      if (failed) return { ok: false };
      return take(waiting.length() === 0 && !tooLong ? [] : [complete(Buffer.alloc(0))]);
    },
  };
}

/** How much of an event that is too long is searched for its id, at each end. */
const edgeBytes = 1024;

const lf = 0x0a;
const cr = 0x0d;

/**
 * Finds the ends of events, chunk by chunk: the positions after each blank line. A line ends with CRLF, LF or CR (WHATWG HTML
 * 9.2.5). A CR at the end of a chunk ends the line; an LF that follows belongs to it.
 */
export function eventEnds(): (chunk: Buffer) => number[] {
  let lineEnds = 0;
  let afterCr = false;
  return (chunk) => {
    const found: number[] = [];
    for (let at = 0; at < chunk.length; at++) {
      const byte = chunk[at];
      if (byte !== lf && byte !== cr) {
        lineEnds = 0;
        afterCr = false;
        continue;
      }
      const completesCrLf = byte === lf && afterCr;
      afterCr = byte === cr;
      if (completesCrLf) continue;
      lineEnds += 1;
      if (lineEnds < 2) continue;
      lineEnds = 0;
      if (afterCr && chunk[at + 1] === lf) {
        at += 1;
        afterCr = false;
      }
      found.push(at + 1);
    }
    return found;
  };
}

/** The event without denied tools; `undefined` if it cannot be read. */
function filterEvent(event: string, mayShow: MayShow): string | undefined {
  // Contains neither the key nor an escape that could spell it.
  if (!/"tools"|\\u/.test(event)) return event;
  const lines = event.split(/\r\n|\n|\r/);
  const data = lines.filter(isData).map((line) => line.slice(5).replace(/^ /, ""));
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(
      Buffer.from(data.join("\n"), "latin1"),
    );
  } catch {
    return undefined;
  }
  if (!/^\s*[[{]/.test(text)) return event;
  const filtered = hideTools(text, mayShow);
  if (filtered === undefined || filtered === text) return filtered === undefined ? undefined : event;
  const others = lines.filter((line) => line !== "" && !isData(line));
  const rewritten = Buffer.from(filtered).toString("latin1").split("\n");
  // May start with the LF of the CRLF that ended the previous event.
  const before = /^[\r\n]*/.exec(event)?.[0] ?? "";
  return `${before}${[...others, ...rewritten.map((line) => `data: ${line}`)].join("\n")}\n\n`;
}

/** A `data` line without a colon is empty data. */
function isData(line: string): boolean {
  return line === "data" || line.startsWith("data:");
}
