/** Bytes that come one after another, in memory of their own: a piece of a message would keep the whole message. */
export interface ByteBuffer {
  /** How many there are. */
  length(): number;
  /** How many bytes of memory they take. */
  room(): number;
  append(bytes: Uint8Array): void;
  /** All of them, with `bytes` behind; it is empty afterwards. */
  takeWith(bytes: Uint8Array): Buffer;
}

/** An empty one. It grows by half, so that a byte is copied a few times at most. */
export function byteBuffer(): ByteBuffer {
  let room = Buffer.alloc(0);
  let used = 0;
  return {
    length: () => used,
    room: () => room.length,
    append(bytes) {
      if (bytes.length === 0) return;
      if (used + bytes.length > room.length) {
        const larger = Buffer.allocUnsafe(Math.max(4096, Math.ceil(1.5 * room.length), used + bytes.length));
        room.copy(larger, 0, 0, used);
        room = larger;
      }
      room.set(bytes, used);
      used += bytes.length;
    },
    takeWith(bytes) {
      const all = Buffer.concat([room.subarray(0, used), bytes]);
      room = Buffer.alloc(0);
      used = 0;
      return all;
    },
  };
}
