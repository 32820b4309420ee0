import { hash } from "node:crypto";
import type { ConnectionKey } from "./store.ts";

/** Opaque, fixed-length name of a connection for caches, notifications, metadata and logs: SHA-256, base64url. */
export function connectionKeyName(key: ConnectionKey): string {
  return hash("sha256", JSON.stringify([key.userId, key.routeId, key.upstream]), "base64url");
}
