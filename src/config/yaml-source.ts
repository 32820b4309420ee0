import {
  type Document,
  isAlias,
  isMap,
  isNode,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
} from "yaml";
import type { Problem } from "./problems.ts";

/** Keys and indexes from the top of the file to a value. */
export type ConfigPath = readonly (string | number)[];

/** A parsed routes file with the positions of its values. */
export interface ConfigSource {
  /** The parsed data; undefined if the file is not valid YAML. */
  readonly value: unknown;
  /** Problems of the YAML syntax. */
  readonly syntaxProblems: readonly Problem[];
  /** Line and column (from 1) of a key or a value, or of the nearest enclosing one if it does not exist. */
  position(path: ConfigPath, at: "key" | "value"): { line: number; column: number };
}

/** Reads YAML (or JSON, which is YAML) text. `file` is only used in problems. Never throws. */
export function configSource(file: string, text: string): ConfigSource {
  const lineCounter = new LineCounter();
  const document = parseDocument(text, { lineCounter, merge: true, prettyErrors: false });
  const lineAndColumn = (offset: number) => {
    const { line, col } = lineCounter.linePos(offset);
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  };
  const syntaxProblems: Problem[] = document.errors.map((error) => ({
    severity: "error",
    file,
    ...lineAndColumn(error.pos[0]),
    path: "",
    message:
      error.code === "DUPLICATE_KEY"
        ? "this key appears twice in the same mapping"
        : `not valid YAML: ${error.message}`,
    fix: error.code === "DUPLICATE_KEY" ? "keep one of the two" : "correct the YAML here",
  }));
  let value: unknown;
  if (syntaxProblems.length === 0) {
    try {
      value = document.toJS({ maxAliasCount: 10_000 });
    } catch (error) {
      const message = error instanceof Error ? error.message : "unreadable";
      syntaxProblems.push({
        severity: "error",
        file,
        line: 1,
        column: 1,
        path: "",
        message: `not valid YAML: ${message}`,
        fix: "correct the anchors and aliases",
      });
    }
  }
  return {
    value,
    syntaxProblems,
    position: (path, at) => lineAndColumn(locate(document, path, at)),
  };
}

function locate(document: Document, path: ConfigPath, at: "key" | "value"): number {
  let node: Node | null = document.contents;
  let offset = node?.range?.[0] ?? 0;
  for (const [depth, step] of path.entries()) {
    const target: Node | undefined | null = isAlias(node) ? node.resolve(document) : node;
    if (isMap(target)) {
      const pair = target.items.find((item) => isScalar(item.key) && String(item.key.value) === String(step));
      if (pair === undefined || !isNode(pair.key)) return offset;
      const keyOffset: number = pair.key.range?.[0] ?? offset;
      const last = depth === path.length - 1;
      node = isNode(pair.value) ? pair.value : null;
      offset = (last && at === "key") || isEmpty(node) ? keyOffset : (node?.range?.[0] ?? keyOffset);
    } else if (isSeq(target)) {
      const item = target.items[Number(step)];
      if (!isNode(item)) return offset;
      node = item;
      offset = node.range?.[0] ?? offset;
    } else return offset;
  }
  return offset;
}

/** `key:` without a value: the offset of the value would be on the next line. */
function isEmpty(node: Node | null): boolean {
  return node === null || (isScalar(node) && node.value === null && node.source === "");
}
