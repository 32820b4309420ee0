import { byteBuffer } from "../policy/event-stream-filter.ts";
import type { BodyFilter, Piece } from "./tool-list.ts";

/** The largest event that is held until it is known whether it names an endpoint; a URL has at most 8,192 characters. Bytes. */
const maxHeld = 16 * 1024;
/** The longest start of a line that is held for the same reason. Bytes. */
const maxHeldOfLine = 1024;

/** Not line ends (WHATWG HTML 9.2.5), except for readers that split like Python's `splitlines`. UTF-8, one character per byte. */
const looseEnd = "[\\v\\f\\x1c-\\x1e]|\\xc2\\x85|\\xe2\\x80[\\xa8\\xa9]";
const hasLooseEnd = new RegExp(looseEnd);
/** White space that never ends a line, but that some readers strip from lines and names (Python's `strip`, JavaScript's `trim`). */
const blanks =
  "(?:[ \\t\\x1f]|\\xc2\\xa0|\\xe1\\x9a\\x80|\\xe2\\x80[\\x80-\\x8b\\xaf]|\\xe2\\x81\\x9f|\\xe3\\x80\\x80|\\xef\\xbb\\xbf)*";
/** White space around a colon: both of the above. No two alternatives begin alike, so that a search takes linear time. */
const space =
  "(?:[\\s\\x1c-\\x1f]|\\xc2[\\x85\\xa0]|\\xe1\\x9a\\x80|\\xe2(?:\\x80[\\x80-\\x8b\\xa8\\xa9\\xaf]|\\x81\\x9f)|\\xe3\\x80\\x80|\\xef\\xbb\\xbf)";
const endpointAfter = (before: string) =>
  new RegExp(`(?:${before})${blanks}event${space}*:${space}*endpoint(?=${space}|$)`);
const looseEndpoint = endpointAfter(looseEnd);
const endpointInLines = endpointAfter(`^|[\\r\\n]|${looseEnd}`);
const anyEndpoint = endpointAfter(`^|${looseEnd}`);
const fieldInSpace = new RegExp(`^${space}*(?:event|data)${space}*$`);
/** Incomplete sequences that the following bytes may complete. */
const partOfEnd = "(?:\\xc2|\\xe2\\x80?)";
const partOfSpace = "(?:\\xc2|\\xe1\\x9a?|\\xe2[\\x80\\x81]?|\\xe3\\x80?|\\xef\\xbb?)";
const ofType = `(?:${partOfSpace}|e|en|end|endp|endpo|endpoi|endpoin|endpoint${partOfSpace}?)?`;
const beginning = `${blanks}(?:${partOfSpace}|e|ev|eve|even|event${space}*(?:${partOfSpace}|:${space}*${ofType})?)?`;
const looseBeginning = new RegExp(`(?:(?:${looseEnd})${beginning}|${partOfEnd})$`);
const lineBeginning = new RegExp(`^${beginning}$`);

const bom = "\xef\xbb\xbf";
const rejected: Piece = { ok: false, reason: "endpoint" };

/**
 * Rewrites the `endpoint` events of a legacy HTTP+SSE stream, which name the URL that the client posts to (MCP 2024-11-05),
 * anywhere in the stream. Everything else passes byte for byte, including events of any length. An event is held until its end
 * only while it can still be an endpoint: JSON-RPC messages, events of another type, and comments pass as they arrive.
 *
 * Rejects an endpoint that leads elsewhere, and an event that other readers may take for an endpoint: one with two types, with a
 * type after its data was sent, with nonstandard line ends, or with white space around its field names.
 *
 * @param rewrite returns the endpoint as clients reach it; undefined: it leads elsewhere and must not be passed on.
 */
export function rewriteEndpoints(rewrite: (endpoint: string) => string | undefined): BodyFilter {
  /** A whole event that may be an endpoint; for an event that passes, the start of its current line. */
  const held = byteBuffer();
  /** The current event is not an endpoint. */
  let passes = false;
  /** Part of its current line was sent. */
  let inLine = false;
  let begun = false;
  let afterCr = false;

  /** @returns the event to send; undefined: it must not be sent */
  function checkedEvent(event: string): string | undefined {
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
    held: held.capacity,
    done: () => false,
    filter(chunk, isLast) {
      const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
      const heldBefore = held.length() > 0;
      // One character per byte: lines are found without decoding, and what passes stays unchanged.
      const text = held.takeWith(bytes).toString("latin1");
      let out = "";
      /** Start of the text that was not sent yet. */
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
      // It belongs to the line that ended with the previous chunk.
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
          if ((inLine ? looseEndpoint : anyEndpoint).test(line)) return rejected;
          passes = inLine || line !== "";
          inLine = false;
          type = undefined;
          passOn(at);
          continue;
        }
        if (line === "") {
          const event = checkedEvent(text.slice(from, at));
          if (event === undefined) return rejected;
          out += event;
          from = at;
          type = undefined;
          continue;
        }
        const { name, value } = fieldOf(line);
        const names = name === "event" ? value.trim() : undefined;
        if (type === "endpoint" && names !== undefined && names !== type) return rejected;
        type ??= names;
        const isOther = (type !== undefined && type !== "endpoint") || isMessage(type, line);
        // A heartbeat may be a comment without a blank line after it.
        const alone = lineAt === from && !fieldInSpace.test(name) && !hasLooseEnd.test(line);
        if (!isOther && !alone) continue;
        if (endpointInLines.test(text.slice(from, at))) return rejected;
        passes = isOther;
        passOn(at);
      }

      if (isLast) {
        // Text without a blank line after it is not an event by the standard, but some readers take it for one.
        const rest = text.slice(from);
        const passed = passes && !(inLine ? looseEndpoint : anyEndpoint).test(rest) ? rest : undefined;
        const event = passes ? passed : checkedEvent(rest);
        return event === undefined ? rejected : { ok: true, body: Buffer.from(out + event, "latin1") };
      }
      if (!passes && (isMessage(type, text.slice(at)) || text.length - from > maxHeld)) {
        if (type === "endpoint" || endpointInLines.test(text.slice(from))) return rejected;
        passes = true;
        // Complete lines before it are already checked.
        passOn(at);
      }
      if (passes) {
        const rest = text.slice(from);
        if ((inLine ? looseEndpoint : anyEndpoint).test(`${rest}x`)) return rejected;
        const cut =
          !inLine && lineBeginning.test(rest) ? 0 : (looseBeginning.exec(rest)?.index ?? rest.length);
        if (rest.length - cut > maxHeldOfLine) return rejected;
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

/** A JSON-RPC message, unless the event has another type: a URL never begins with a brace. */
function isMessage(type: string | undefined, line: string): boolean {
  return type === undefined && /^data:\s*[[{]/.test(line);
}

/** WHATWG HTML 9.2.6: an event without data is dropped; the last `event` line counts. `spaced`: trimming names would change them. */
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
