import type { Filtered } from "./filter-tools-json.ts";
import { hideTools } from "./hide-tools.ts";
import type { MayShow } from "./read-tool-filter.ts";

/** Filters one event stream, chunk by chunk. After an answer that is not `ok` the stream must be ended. */
export interface ToolsStreamFilter {
  /** Whole events of what has come so far; the rest waits for the next chunk. */
  push(chunk: Uint8Array): Filtered;
  /** What was still waiting when the stream ended. */
  end(): Filtered;
}

/**
 * Filters the `text/event-stream` answer to a `tools/list`, and streams on which one may be resumed (F8.15). Events that
 * carry no list of tools pass byte for byte, comments, ids and retry times included.
 *
 * @param maxEventBytes the largest event to wait for, bytes; a longer one ends the stream.
 */
export function createToolsStreamFilter(mayShow: MayShow, maxEventBytes: number): ToolsStreamFilter {
  // One character a byte: line ends are found without decoding, and what passes stays what it was.
  let waiting = "";
  let failed = false;
  let first = true;

  function take(events: readonly string[]): Filtered {
    const out: string[] = [];
    for (const event of events) {
      const filtered = filterEvent(first ? event.replace(/^\xEF\xBB\xBF/, "") : event, mayShow);
      if (filtered === undefined) {
        failed = true;
        return { ok: false };
      }
      out.push(filtered);
      first = false;
    }
    return { ok: true, body: Buffer.from(out.join(""), "latin1") };
  }

  return {
    push(chunk) {
      if (failed) return { ok: false };
      waiting += Buffer.from(chunk).toString("latin1");
      const events: string[] = [];
      for (let end = eventEnd(waiting); end > 0; end = eventEnd(waiting)) {
        events.push(waiting.slice(0, end));
        waiting = waiting.slice(end);
      }
      if (waiting.length > maxEventBytes) {
        failed = true;
        return { ok: false };
      }
      return take(events);
    },
    end() {
      if (failed) return { ok: false };
      const rest = waiting;
      waiting = "";
      return take(rest === "" ? [] : [rest]);
    },
  };
}

/** Position after the first blank line, or 0. A line ends with CRLF, LF or CR (WHATWG HTML 9.2.5). */
function eventEnd(text: string): number {
  const match = /(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))/.exec(text);
  return match ? match.index + match[0].length : 0;
}

/** The event, rewritten where it lists tools that must not show; `undefined` where that cannot be told. */
function filterEvent(event: string, mayShow: MayShow): string | undefined {
  // Neither the key nor an escape that could spell it: nothing to look for.
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
  // The LF of a CRLF that ended the event before may have come with this one.
  const before = /^[\r\n]*/.exec(event)?.[0] ?? "";
  return `${before}${[...others, ...rewritten.map((line) => `data: ${line}`)].join("\n")}\n\n`;
}

/** A line `data` without a colon is an empty one. */
function isData(line: string): boolean {
  return line === "data" || line.startsWith("data:");
}
