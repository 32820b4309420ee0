import { parseEnv } from "node:util";

/** A value that no quoting carries through a shell, systemd and Compose alike. */
export class UnquotableValue extends Error {}

/**
 * Lines of an environment file that a POSIX shell, systemd's `EnvironmentFile` and Compose's `env_file` read alike.
 * @throws UnquotableValue for a value with line breaks, or with a single quote together with `"`, `$`, a backquote or a backslash
 */
export function envLines(values: Readonly<Record<string, string>>): string {
  return Object.entries(values)
    .map(([name, value]) => `${name}=${quoted(name, value)}\n`)
    .join("");
}

function quoted(name: string, value: string): string {
  if (/^[\w./:@%+=-]+$/.test(value)) return value;
  if (!/['\r\n]/.test(value)) return `'${value}'`;
  if (!/["$`\\\r\n]/.test(value)) return `"${value}"`;
  throw new UnquotableValue(
    `the value of ${name} has line breaks, or quotes that environment files cannot contain`,
  );
}

/** The values of such a file, to be kept when it is written again. */
export function readEnvLines(text: string): Record<string, string> {
  return Object.fromEntries(Object.entries(parseEnv(text)).map(([name, value]) => [name, value ?? ""]));
}
