/**
 * Writes one protobuf message from its last field to its first: a nested message's length is known by the time it is written,
 * so that nothing has to be measured first or moved after.
 */
export interface BackwardsWriter {
  /** Where what is written next ends: for `message`. */
  position(): number;
  varint(field: number, value: number): void;
  double(field: number, value: number): void;
  /** Left out when empty, as proto3 has it. */
  string(field: number, value: string): void;
  /** Also when empty: a member of a oneof. */
  presentString(field: number, value: string): void;
  /** Fields encoded before. */
  raw(encoded: Buffer): void;
  /** Puts what was written since `end` into a length-delimited field. */
  message(field: number, end: number): void;
  /** The bytes written since the last time, in a buffer of their own. */
  take(): Buffer;
}

const shortString = 48;
const firstSize = 16 * 1024;
/** More than this is given back after a large message. Bytes. */
const keptSize = 256 * 1024;

export function backwardsWriter(): BackwardsWriter {
  let bytes = Buffer.allocUnsafeSlow(firstSize);
  /** Counted from the end, so that growing moves nothing anybody remembers. */
  let written = 0;

  /** Where the next `count` bytes go. `bytes` may be another one after this. */
  function room(count: number): number {
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
      const at = room(1);
      bytes[at] = value;
      return;
    }
    let count = 1;
    for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 128)) count++;
    let at = room(count);
    let rest = value;
    for (; rest >= 0x80; rest = Math.floor(rest / 128)) bytes[at++] = (rest % 128) | 0x80;
    bytes[at] = rest;
  }
  function presentString(field: number, value: string): void {
    if (value.length > shortString || !shortAscii(value)) {
      const length = Buffer.byteLength(value);
      const at = room(length);
      bytes.write(value, at, length, "utf8");
      number(length);
    }
    number((field << 3) | 2);
  }
  /** A call into the runtime costs more than a short string's few bytes. */
  function shortAscii(value: string): boolean {
    const { length } = value;
    const at = room(length);
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
      const at = room(8);
      bytes.writeDoubleLE(value, at);
      number((field << 3) | 1);
    },
    string(field, value) {
      if (value !== "") presentString(field, value);
    },
    presentString,
    raw(encoded) {
      const at = room(encoded.length);
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
