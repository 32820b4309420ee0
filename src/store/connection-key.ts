import { createHash } from "node:crypto";
import type { ConnectionKey } from "./store.ts";

/** Opaque, fixed-length name of a connection for caches, notifications, metadata and logs: SHA-256, base64url. */
export function connectionKeyName(key: ConnectionKey): string {
  return createHash("sha256")
    .update(JSON.stringify([key.userId, key.routeId, key.upstream]))
    .digest("base64url");
}
