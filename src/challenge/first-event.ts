import { byteBuffer } from "../policy/byte-buffer.ts";
import { eventEnds } from "../policy/create-tools-stream-filter.ts";
import type { BodyFilter } from "./tools-answer.ts";

/**
 * Rewrites the first event of a legacy HTTP+SSE stream, `endpoint`, which says where the client posts to (MCP 2024-11-05). An event
 * of another kind passes as it is. Everything behind the first one passes unseen, `done` says so; what is no event (comments,
 * retry times) is before it.
 *
 * @param rewrite the endpoint as clients reach it; undefined: it leads elsewhere, and must not be passed on.
 * @param maxBytes the largest event to wait for.
 */
export function rewriteFirstEvent(
  rewrite: (endpoint: string) => string | undefined,
  maxBytes: number,
): BodyFilter {
  const waiting = byteBuffer();
  const ends = eventEnds();
  let done = false;
  let begun = false;

  return {
    held: waiting.room,
    done: () => done,
    filter(chunk, isLast) {
      const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
      if (done) return { ok: true, body: bytes };
      const out: Buffer[] = [];
      let from = 0;
      const all = ends(bytes);
      // What has no blank line behind it is no event to a reader that keeps to the standard, but may be to others.
      if (isLast && all.at(-1) !== bytes.length) all.push(bytes.length);
      for (const end of all) {
        const block = waiting.takeWith(bytes.subarray(from, end));
        from = end;
        const text = block.toString("utf8");
        const read = readEvent(begun ? text : text.replace(/^\uFEFF/, ""));
        begun = true;
        if (read.data === "") {
          out.push(block);
          continue;
        }
        done = true;
        if (read.type !== "endpoint") {
          out.push(block);
          break;
        }
        const endpoint = rewrite(read.data.trim());
        if (endpoint === undefined) return { ok: false, reason: "endpoint" };
        out.push(Buffer.from(`${[...read.others, `data: ${endpoint}`].join("\n")}\n\n`));
        break;
      }
      const rest = bytes.subarray(from);
      if (done) return { ok: true, body: Buffer.concat([...out, rest]) };
      waiting.append(rest);
      return waiting.length() > maxBytes ? { ok: false } : { ok: true, body: Buffer.concat(out) };
    },
  };
}

/** WHATWG HTML 9.2.6: an event without data is none; the last `event` line counts. */
function readEvent(block: string): { type: string; data: string; others: readonly string[] } {
  const lines = block.split(/\r\n|\n|\r/).filter((line) => line !== "");
  // `s`: U+2028 ends no line of a stream, though it does one of JavaScript.
  const fieldOf = (line: string) => /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? [];
  let type = "";
  const data: string[] = [];
  const others: string[] = [];
  for (const line of lines) {
    const [, name, value = ""] = fieldOf(line);
    if (name === "data") data.push(value);
    else others.push(line);
    if (name === "event") type = value.trim();
  }
  return { type, data: data.join("\n"), others };
}
