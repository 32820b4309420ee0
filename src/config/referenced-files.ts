import { createHash } from "node:crypto";
import { readFileSync, statSync } from "node:fs";

/** A file that the routes file refers to, as it was read. */
export interface ReferencedFile {
  /** Of contents and permissions: `chmod o-r` fixes the problem of an inline secret. */
  readonly fingerprint: string;
  /** Absent if it cannot be read. */
  readonly content?: string;
  /** The code of the error, such as ENOENT. */
  readonly fault?: string;
}

/** Reads a file once, so that its fingerprint is that of its content. Never throws. */
export function readReferencedFile(path: string): ReferencedFile {
  try {
    const { mode } = statSync(path);
    const bytes = readFileSync(path);
    const fingerprint = createHash("sha256").update(`${mode}\0`).update(bytes).digest("hex");
    return { fingerprint, content: bytes.toString("utf8") };
  } catch (error) {
    const fault = error instanceof Error && "code" in error ? String(error.code) : "unreadable";
    return { fingerprint: "absent", fault };
  }
}
