import { createHash } from "node:crypto";
import { readFileSync, statSync } from "node:fs";

/** A file that the routes file refers to, as it was read. */
export interface ReferencedFile {
  readonly fingerprint: string;
  /** Absent if it cannot be read. */
  readonly content?: string;
  /** The code of the error, such as ENOENT. */
  readonly fault?: string;
}

/** Reads a file once, so that its fingerprint is that of its content. Never throws. */
export function readReferencedFile(path: string): ReferencedFile {
  try {
    const { fingerprint, bytes } = readBytes(path);
    return { fingerprint, content: bytes.toString("utf8") };
  } catch (error) {
    const fault = error instanceof Error && "code" in error ? String(error.code) : "unreadable";
    return { fingerprint: absent, fault };
  }
}

/** For values that must not, or need not, read files. */
export function readNoFile(): ReferencedFile {
  return { fingerprint: absent, fault: "not allowed" };
}

/** Of contents and permissions: `chmod o-r` fixes the problem of an inline secret. Never throws. */
export function fingerprint(path: string): string {
  try {
    return readBytes(path).fingerprint;
  } catch {
    return absent;
  }
}

const absent = "absent";

function readBytes(path: string) {
  const { mode } = statSync(path);
  const bytes = readFileSync(path);
  return { fingerprint: createHash("sha256").update(`${mode}\0`).update(bytes).digest("hex"), bytes };
}
