import { byteBuffer } from "../policy/event-stream-filter.ts";
import type { BodyFilter, Piece } from "./tool-list.ts";

/** The largest event that is held until it is known whether it names an endpoint; an address has at most 8,192 characters. Bytes. */
const mostHeld = 16 * 1024;
/** The longest beginning of a line that is held for the same reason. Bytes. */
const mostHeldOfLine = 1024;

/** Ends no line (WHATWG HTML 9.2.5), but does for readers that split as Python's `splitlines`. UTF-8, one character a byte. */
const looseEnd = "[\\v\\f\\x1c-\\x1e]|\\xc2\\x85|\\xe2\\x80[\\xa8\\xa9]";
const hasLooseEnd = new RegExp(looseEnd);
/** White space that ends no line for anybody: readers that strip lines and names take it off (Python's `strip`, JavaScript's `trim`). */
const blanks =
  "(?:[ \\t\\x1f]|\\xc2\\xa0|\\xe1\\x9a\\x80|\\xe2\\x80[\\x80-\\x8b\\xaf]|\\xe2\\x81\\x9f|\\xe3\\x80\\x80|\\xef\\xbb\\xbf)*";
/** What may stand around a colon: all of both. No two alternatives begin alike, so that a search takes linear time. */
const space =
  "(?:[\\s\\x1c-\\x1f]|\\xc2[\\x85\\xa0]|\\xe1\\x9a\\x80|\\xe2(?:\\x80[\\x80-\\x8b\\xa8\\xa9\\xaf]|\\x81\\x9f)|\\xe3\\x80\\x80|\\xef\\xbb\\xbf)";
const endpointAfter = (before: string) =>
  new RegExp(`(?:${before})${blanks}event${space}*:${space}*endpoint(?=${space}|$)`);
const looseEndpoint = endpointAfter(looseEnd);
const endpointInLines = endpointAfter(`^|[\\r\\n]|${looseEnd}`);
const anyEndpoint = endpointAfter(`^|${looseEnd}`);
const fieldInSpace = new RegExp(`^${space}*(?:event|data)${space}*$`);
/** What may become one of them with the bytes that follow. */
const partOfEnd = "(?:\\xc2|\\xe2\\x80?)";
const partOfSpace = "(?:\\xc2|\\xe1\\x9a?|\\xe2[\\x80\\x81]?|\\xe3\\x80?|\\xef\\xbb?)";
const ofType = `(?:${partOfSpace}|e|en|end|endp|endpo|endpoi|endpoin|endpoint${partOfSpace}?)?`;
const beginning = `${blanks}(?:${partOfSpace}|e|ev|eve|even|event${space}*(?:${partOfSpace}|:${space}*${ofType})?)?`;
const looseBeginning = new RegExp(`(?:(?:${looseEnd})${beginning}|${partOfEnd})$`);
const lineBeginning = new RegExp(`^${beginning}$`);

const bom = "\xef\xbb\xbf";
const refused: Piece = { ok: false, reason: "endpoint" };

/**
 * Rewrites the `endpoint` events of a legacy HTTP+SSE stream, which say where the client posts to (MCP 2024-11-05), wherever in the
 * stream they come. Everything else passes byte for byte, events of any length included. An event is held until its end only while
 * it can still be an endpoint: JSON-RPC messages, events that name another type, and comments go out as they come.
 *
 * Refused is an endpoint that leads elsewhere, and an event that readers may take for one while we do not: it names two types, it
 * names its type when its data has gone out, its lines end with characters that end none, or white space surrounds its names.
 *
 * @param rewrite the endpoint as clients reach it; undefined: it leads elsewhere, and must not be passed on.
 */
export function rewriteEndpoints(rewrite: (endpoint: string) => string | undefined): BodyFilter {
  /** The event that may be an endpoint, from its beginning; of one that passes, the beginning of a line. */
  const held = byteBuffer();
  /** The event under way is no endpoint. */
  let passes = false;
  /** Of its last line, a part has gone out. */
  let inLine = false;
  let begun = false;
  let afterCr = false;

  /** @returns the event as it goes out; undefined: it must not */
  function judged(event: string): string | undefined {
    const { type, data, others, spaced } = readEvent(event);
    if (spaced && event.includes("endpoint")) return undefined;
    if (type !== "endpoint") return endpointInLines.test(event) ? undefined : event;
    if (hasLooseEnd.test(event)) return undefined;
    if (data === "") return event;
    const endpoint = rewrite(utf8(data).trim());
    return endpoint === undefined
      ? undefined
      : latin1([...others, `data: ${endpoint}`].join("\n").concat("\n\n"));
  }

  return {
    held: held.room,
    done: () => false,
    filter(chunk, isLast) {
      const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
      const heldBefore = held.length() > 0;
      // One character a byte: lines are found without decoding, and what passes stays what it was.
      const text = held.takeWith(bytes).toString("latin1");
      let out = "";
      /** Where what has not gone out begins. */
      let from = 0;
      const passOn = (end: number) => {
        out += text.slice(from, end);
        from = end;
      };
      if (!begun) {
        if (!isLast && bom.startsWith(text)) {
          held.append(Buffer.from(text, "latin1"));
          return { ok: true, body: Buffer.alloc(0) };
        }
        begun = true;
        if (text.startsWith(bom)) passOn(bom.length);
      }
      // It belongs to the line that has ended with the chunk before.
      if (afterCr && !heldBefore && text.startsWith("\n")) passOn(1);
      afterCr = text.length > 0 ? text.endsWith("\r") : afterCr;

      let type: string | undefined;
      let at = from;
      const searched = from;
      for (const match of text.slice(searched).matchAll(/\r\n|\r|\n/g)) {
        const lineAt = at;
        const line = text.slice(lineAt, searched + match.index);
        at = lineAt + line.length + match[0].length;
        if (passes) {
          if ((inLine ? looseEndpoint : anyEndpoint).test(line)) return refused;
          passes = inLine || line !== "";
          inLine = false;
          type = undefined;
          passOn(at);
          continue;
        }
        if (line === "") {
          const event = judged(text.slice(from, at));
          if (event === undefined) return refused;
          out += event;
          from = at;
          type = undefined;
          continue;
        }
        const { name, value } = fieldOf(line);
        const names = name === "event" ? value.trim() : undefined;
        if (type === "endpoint" && names !== undefined && names !== type) return refused;
        type ??= names;
        const isOther = (type !== undefined && type !== "endpoint") || isMessage(type, line);
        // A heartbeat may be a comment without a blank line behind it.
        const alone = lineAt === from && !fieldInSpace.test(name) && !hasLooseEnd.test(line);
        if (!isOther && !alone) continue;
        if (endpointInLines.test(text.slice(from, at))) return refused;
        passes = isOther;
        passOn(at);
      }

      if (isLast) {
        // What has no blank line behind it is no event to a reader that keeps to the standard, but may be to others.
        const rest = text.slice(from);
        const passed = passes && !(inLine ? looseEndpoint : anyEndpoint).test(rest) ? rest : undefined;
        const event = passes ? passed : judged(rest);
        return event === undefined ? refused : { ok: true, body: Buffer.from(out + event, "latin1") };
      }
      if (!passes && (isMessage(type, text.slice(at)) || text.length - from > mostHeld)) {
        if (type === "endpoint" || endpointInLines.test(text.slice(from))) return refused;
        passes = true;
        // Whole lines before it are looked at already.
        passOn(at);
      }
      if (passes) {
        const rest = text.slice(from);
        if ((inLine ? looseEndpoint : anyEndpoint).test(`${rest}x`)) return refused;
        const cut =
          !inLine && lineBeginning.test(rest) ? 0 : (looseBeginning.exec(rest)?.index ?? rest.length);
        if (rest.length - cut > mostHeldOfLine) return refused;
        inLine ||= cut > 0;
        passOn(from + cut);
      }
      const rest = text.slice(from);
      held.append(Buffer.from(rest, "latin1"));
      const unchanged = !heldBefore && rest === "" && out === text;
      return { ok: true, body: unchanged ? bytes : Buffer.from(out, "latin1") };
    },
  };
}

/** A JSON-RPC message, as long as no type says otherwise: no address begins with a brace. */
function isMessage(type: string | undefined, line: string): boolean {
  return type === undefined && /^data:\s*[[{]/.test(line);
}

/** WHATWG HTML 9.2.6: an event without data is none; the last `event` line counts. `spaced`: readers that trim names find others. */
function readEvent(block: string): {
  type: string;
  data: string;
  others: readonly string[];
  spaced: boolean;
} {
  let type = "";
  const data: string[] = [];
  const others: string[] = [];
  let spaced = false;
  for (const line of block.split(/\r\n|\n|\r/)) {
    if (line === "") continue;
    const { name, value } = fieldOf(line);
    spaced ||= name !== "event" && name !== "data" && fieldInSpace.test(name);
    if (name === "data") data.push(value);
    else others.push(utf8(line));
    if (name === "event") type = value.trim();
  }
  return { type, data: data.join("\n"), others, spaced };
}

function fieldOf(line: string): { name: string; value: string } {
  const [, name = "", value = ""] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? [];
  return { name, value };
}

function utf8(text: string): string {
  return Buffer.from(text, "latin1").toString("utf8");
}
function latin1(text: string): string {
  return Buffer.from(text).toString("latin1");
}
