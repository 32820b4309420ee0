import { createScanner } from "jsonc-parser";

/**
 * The word a lenient parser may take a key for: compatibility forms, letter case (Unicode's, as Go's decoder folds it:
 * `ſ` is an `s`), accents, invisible characters, blanks and separators all fall away.
 */
export function foldKey(key: string): string {
  return key
    .normalize("NFKD")
    .toUpperCase()
    .toLowerCase()
    .replace(/[\p{C}\p{M}\p{P}\p{Z}\p{S}]/gu, "");
}

/** A key that two parsers may read differently, or nesting that one of them may not survive. */
export interface AmbiguousKey {
  readonly reason: "duplicate_key" | "lookalike_key" | "too_deep";
  readonly key: string;
}

/** Members whose meaning decides: those of a JSON-RPC message, and the one of its parameters that names the tool. */
const reserved = {
  message: new Set(["jsonrpc", "id", "method", "params", "result", "error"]),
  params: new Set(["name"]),
};

interface Frame {
  readonly isObject: boolean;
  readonly place: "root" | "batch" | "message" | "params" | "other";
  readonly keys: Set<string>;
  /** The key whose value comes next. */
  key: string;
  expectsKey: boolean;
}

/**
 * Looks at every key of a JSON text, which a value-returning parser no longer shows: the same key twice in one object
 * (the first wins here, the last there), a reserved key in other letters (`Method`, `paramſ`: Go's decoder takes both),
 * `__proto__`, deep nesting. Walks tokens, without recursion.
 *
 * @param text JSON that `JSON.parse` has accepted.
 * @param maxDepth levels of nesting.
 */
export function findAmbiguousKey(text: string, maxDepth: number): AmbiguousKey | undefined {
  const scanner = createScanner(text, true);
  const stack: Frame[] = [];
  for (;;) {
    scanner.scan();
    const at = scanner.getTokenOffset();
    if (at >= text.length) return undefined;
    const top = stack.at(-1);
    switch (text[at]) {
      case "{":
      case "[":
        if (stack.length === maxDepth) return { reason: "too_deep", key: "" };
        stack.push(frameWithin(top, text[at] === "{"));
        break;
      case "}":
      case "]":
        stack.pop();
        break;
      case ",":
        if (top) top.expectsKey = top.isObject;
        break;
      case '"':
        if (top?.expectsKey) {
          const key = scanner.getTokenValue();
          const reason = wrongWith(key, top);
          if (reason) return { reason, key };
          top.keys.add(key);
          top.key = key;
          top.expectsKey = false;
        }
        break;
      default:
    }
  }
}

function frameWithin(parent: Frame | undefined, isObject: boolean): Frame {
  return { isObject, place: placeWithin(parent, isObject), keys: new Set(), key: "", expectsKey: isObject };
}

function placeWithin(parent: Frame | undefined, isObject: boolean): Frame["place"] {
  if (!parent) return isObject ? "message" : "batch";
  if (parent.place === "batch" && isObject) return "message";
  if (parent.place === "message" && parent.key === "params" && isObject) return "params";
  return "other";
}

function wrongWith(key: string, { keys, place }: Frame): AmbiguousKey["reason"] | undefined {
  if (keys.has(key)) return "duplicate_key";
  if (place !== "message" && place !== "params") return undefined;
  if (reserved[place].has(key)) return undefined;
  const folded = foldKey(key);
  return folded === "proto" || reserved[place].has(folded) || !key.isWellFormed()
    ? "lookalike_key"
    : undefined;
}
