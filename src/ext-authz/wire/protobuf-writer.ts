/**
 * Writes one protobuf message from its last field to its first: the length of a nested message is then known when it is written,
 * so that nothing has to be measured first or moved afterwards.
 */
export interface BackwardsWriter {
  /** The end of the field written next: the argument of `message`. */
  position(): number;
  varint(field: number, value: number): void;
  double(field: number, value: number): void;
  /** Omitted when empty, as in proto3. */
  string(field: number, value: string): void;
  /** Written even when empty: a member of a oneof. */
  presentString(field: number, value: string): void;
  /** Fields that are already encoded. */
  raw(encoded: Buffer): void;
  /** Wraps everything written since `end` in a length-delimited field. */
  message(field: number, end: number): void;
  /** The bytes written since the last call, in a new buffer. */
  take(): Buffer;
}

const shortString = 48;
const firstSize = 16 * 1024;
/** A larger buffer is released after the message. Bytes. */
const keptSize = 256 * 1024;

export function backwardsWriter(): BackwardsWriter {
  let bytes = Buffer.allocUnsafeSlow(firstSize);
  /** Counted from the end, so that positions stay valid when the buffer grows. */
  let written = 0;

  /** Reserves `count` bytes and returns their position. May replace `bytes`. */
  function reserve(count: number): number {
    if (written + count > bytes.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(bytes.length * 2, written + count));
      bytes.copy(larger, larger.length - written, bytes.length - written);
      bytes = larger;
    }
    written += count;
    return bytes.length - written;
  }
  function number(value: number): void {
    if (value < 0x80) {
      const at = reserve(1);
      bytes[at] = value;
      return;
    }
    let count = 1;
    for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 128)) count++;
    let at = reserve(count);
    let rest = value;
    for (; rest >= 0x80; rest = Math.floor(rest / 128)) bytes[at++] = (rest % 128) | 0x80;
    bytes[at] = rest;
  }
  function presentString(field: number, value: string): void {
    if (value.length > shortString || !shortAscii(value)) {
      const length = Buffer.byteLength(value);
      const at = reserve(length);
      bytes.write(value, at, length, "utf8");
      number(length);
    }
    number((field << 3) | 2);
  }
  /** For a short string, a call into the runtime costs more than a loop. */
  function shortAscii(value: string): boolean {
    const { length } = value;
    const at = reserve(length);
    for (let index = 0; index < length; index++) {
      const code = value.charCodeAt(index);
      if (code >= 0x80) {
        written -= length;
        return false;
      }
      bytes[at + index] = code;
    }
    number(length);
    return true;
  }

  return {
    position: () => written,
    varint(field, value) {
      number(value);
      number(field << 3);
    },
    double(field, value) {
      const at = reserve(8);
      bytes.writeDoubleLE(value, at);
      number((field << 3) | 1);
    },
    string(field, value) {
      if (value !== "") presentString(field, value);
    },
    presentString,
    raw(encoded) {
      const at = reserve(encoded.length);
      bytes.set(encoded, at);
    },
    message(field, end) {
      number(written - end);
      number((field << 3) | 2);
    },
    take() {
      const taken = Buffer.allocUnsafe(written);
      bytes.copy(taken, 0, bytes.length - written);
      written = 0;
      if (bytes.length > keptSize) bytes = Buffer.allocUnsafeSlow(firstSize);
      return taken;
    },
  };
}
