import { createHash } from "node:crypto";

/** Represents a secret handle (session id, state, record id) in tables, URLs and logs: SHA-256, base64url. */
export function hashedHandle(secret: string): string {
  return createHash("sha256").update(secret).digest("base64url");
}
