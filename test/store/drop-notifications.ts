/**
 * Behaves like LISTEN through a transaction-mode pooler: the statement succeeds, but NotificationResponse messages ("A") never arrive.
 * Returns a filter for the server's bytes on one connection (type byte, then a length that includes itself).
 */
export function dropNotifications(): (chunk: Buffer) => Buffer {
  let rest = Buffer.alloc(0);
  return (chunk) => {
    rest = Buffer.concat([rest, chunk]);
    const kept: Buffer[] = [];
    while (rest.length >= 5 && rest.length > rest.readUInt32BE(1)) {
      const end = rest.readUInt32BE(1) + 1;
      if (rest[0] !== "A".charCodeAt(0)) kept.push(rest.subarray(0, end));
      rest = rest.subarray(end);
    }
    return Buffer.concat(kept);
  };
}
