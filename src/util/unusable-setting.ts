import { constants } from "node:os";
import { getSystemErrorMessage } from "node:util";

/**
 * A setting names a file, folder or address that this process cannot use. The message is one line: the setting, what was tried, the
 * operating system's reason, and the fix.
 */
export class UnusableSetting extends Error {
  readonly code = "unusable_setting";

  constructor(setting: string, tried: string, cause: unknown, fix: string) {
    super(`${setting}: ${tried}: ${systemReason(cause)}; ${fix}`, { cause });
    this.name = "UnusableSetting";
  }
}

/** The code of a system error (`EACCES`), also if a library mentions it only in its message. */
export function systemCode(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const code = "code" in error ? String(error.code) : "";
  const found = isSystemCode(code) ? code : /\b(E[A-Z0-9]+)\b/.exec(error.message)?.[1];
  return found !== undefined && isSystemCode(found) ? found : undefined;
}

const isSystemCode = (code: string): code is keyof typeof constants.errno =>
  Object.hasOwn(constants.errno, code);

/** `permission denied (EACCES)`; for other errors the first line of their message. */
export function systemReason(error: unknown): string {
  const code = systemCode(error);
  if (code !== undefined && isSystemCode(code))
    return `${getSystemErrorMessage(-constants.errno[code])} (${code})`;
  return (error instanceof Error ? error.message : String(error)).split("\n", 1)[0] ?? "";
}

/** `this process's user (uid 65532)`: who needs a permission. */
export function thisUser(): string {
  const uid = process.getuid?.();
  return `this process's user${uid === undefined ? "" : ` (uid ${uid})`}`;
}
