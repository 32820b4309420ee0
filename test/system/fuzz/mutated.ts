import fc from "fast-check";

/** Bytes that are problematic for parsers. */
const dictionary = [
  "\r\n",
  "\r\n\r\n",
  "\n",
  "\0",
  " ",
  "\t",
  "%2f",
  "%2e%2e",
  "%00",
  "..;/",
  "//",
  "\\",
  "@",
  "#",
  "?",
  "&",
  ",",
  ";",
  "=",
  '"',
  "<script>",
  "{{",
  "Authorization: Bearer x\r\n",
  "authorization",
  "Host: open.test\r\n",
  "x-forwarded-host: open.test\r\n",
  "x-forwarded-proto: http\r\n",
  "x-original-path: /\r\n",
  "x-envoy-original-path: /\r\n",
  "x-pomerium-jwt-assertion: x\r\n",
  "Transfer-Encoding: chunked\r\n",
  "Content-Length: 0\r\n",
  "Content-Length: 99999999999999999999\r\n",
  "HTTP/1.0",
  "HTTP/2.0",
  "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
  "open.test",
  "everything.test",
  "auth.test",
  "open.test.",
  "OPEN.TEST:443",
  "[::1]",
  "127.0.0.1",
  "null",
  "__proto__",
  "constructor",
  "-1",
  "9007199254740993",
  "1e309",
  "\u{1f480}",
  "\xff\xfe",
  "\xed\xa0\x80",
].map((text) => Buffer.from(text, "latin1"));

interface Edit {
  readonly kind: "flip" | "set" | "delete" | "repeat" | "insert" | "word" | "splice";
  readonly at: number;
  readonly size: number;
  readonly byte: number;
}

const edit: fc.Arbitrary<Edit> = fc.record({
  kind: fc.constantFrom("flip", "set", "delete", "repeat", "insert", "word", "splice"),
  at: fc.nat(),
  size: fc.nat({ max: 4096 }),
  byte: fc.nat({ max: 255 }),
});

const edits = fc.array(edit, { minLength: 1, maxLength: 8 });

/**
 * A member of `corpus` after one to eight edits: flipped bits; overwritten, removed, repeated or inserted bytes; inserted dictionary
 * words; the tail of another member appended. Shrinks to fewer edits.
 */
export function mutated(corpus: readonly Buffer[]): fc.Arbitrary<Buffer> {
  return fc.tuple(fc.constantFrom(...corpus), edits).map(([seed, list]) => edited(seed, list, corpus));
}

/**
 * A member of `corpus` as bytes: in three of four cases, one to four of its strings are edited before it is serialized, so that it is
 * readable; otherwise it is edited after it is serialized, like `mutated`.
 */
export function mutatedMessage(
  corpus: readonly object[],
  serialize: (message: object) => Buffer,
): fc.Arbitrary<Buffer> {
  const leafEdits = fc.array(fc.tuple(fc.nat(), edits), { minLength: 1, maxLength: 4 });
  const readable = fc.tuple(fc.constantFrom(...corpus), leafEdits).map(([seed, list]) => {
    const message = structuredClone(seed);
    const leaves = leavesOf(message);
    for (const [index, one] of list) {
      const leaf = leaves[index % leaves.length];
      leaf?.change((bytes) =>
        edited(
          bytes,
          one,
          leaves.map((other) => other.bytes),
        ),
      );
    }
    return serialize(message);
  });
  return fc.oneof(
    { weight: 3, arbitrary: readable },
    { weight: 1, arbitrary: mutated(corpus.map(serialize)) },
  );
}

interface Leaf {
  readonly bytes: Buffer;
  change(edit: (bytes: Buffer) => Buffer): void;
}

/** Every string and byte string in a message. */
function leavesOf(node: object): Leaf[] {
  return Object.entries(node).flatMap(([name, value]): Leaf[] => {
    if (typeof value === "string") {
      const bytes = Buffer.from(value, "latin1");
      return [{ bytes, change: (edit) => Reflect.set(node, name, edit(bytes).toString("latin1")) }];
    }
    if (value instanceof Uint8Array) {
      const bytes = Buffer.from(value);
      return [{ bytes, change: (edit) => Reflect.set(node, name, edit(bytes)) }];
    }
    return typeof value === "object" && value !== null ? leavesOf(value) : [];
  });
}

function edited(seed: Buffer, list: readonly Edit[], corpus: readonly Buffer[]): Buffer {
  let bytes = seed;
  for (const one of list) bytes = apply(bytes, one, corpus);
  return bytes;
}

function apply(bytes: Buffer, { kind, at, size, byte }: Edit, corpus: readonly Buffer[]): Buffer {
  if (bytes.length === 0) return Buffer.alloc(size % 64, byte);
  const offset = at % bytes.length;
  const length = 1 + (size % 64);
  const put = (middle: Buffer, skip = 0) =>
    Buffer.concat([bytes.subarray(0, offset), middle, bytes.subarray(offset + skip)]);
  switch (kind) {
    case "flip":
      return put(Buffer.of((bytes[offset] ?? 0) ^ (1 << (byte % 8))), 1);
    case "set":
      return put(Buffer.of(byte), 1);
    case "delete":
      return put(Buffer.alloc(0), length);
    case "repeat":
      // Rarely large, to test limits.
      return put(Buffer.alloc(byte === 0 ? size * 32 : length, bytes.subarray(offset, offset + length)));
    case "insert":
      return put(Buffer.alloc(length, byte));
    case "word":
      return put(dictionary[(byte * 256 + size) % dictionary.length] ?? Buffer.alloc(0));
    case "splice": {
      const other = corpus[size % corpus.length] ?? bytes;
      return Buffer.concat([bytes.subarray(0, offset), other.subarray(at % (other.length + 1))]);
    }
  }
}
