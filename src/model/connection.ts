import { hash } from "node:crypto";

/** Identity of a connection: user, route and upstream. */
export interface ConnectionKey {
  readonly userId: string;
  readonly routeId: string;
  readonly upstream: string;
}

/** Opaque, fixed-length name of a connection for caches, notifications, metadata and logs (SHA-256, base64url). */
export function connectionKeyName(key: ConnectionKey): string {
  return hash("sha256", JSON.stringify([key.userId, key.routeId, key.upstream]), "base64url");
}
