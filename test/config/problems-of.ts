import { loadConfig } from "../../src/config/load-config.ts";
import { configFile } from "./config-file.ts";

/** Every problem of a file as `line:column severity path: message -> fix`. */
export function problemsOf(text: string, env: Record<string, string> = {}, mode = 0o600): string[] {
  return loadConfig(configFile(text, mode), env).problems.map(
    ({ line, column, severity, path, message, fix }) =>
      `${line}:${column} ${severity} ${path}: ${message} -> ${fix}`,
  );
}
