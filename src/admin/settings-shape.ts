import { AdminError } from "./access.ts";

/** Levels of lists and mappings in a route's settings: code that reads them calls itself for each. Policies need the most. */
const maxLevels = 64;

/** @throws AdminError 400 `invalid_route` for settings that are nested too deeply, or have a key that is a part of every object */
export function checkShape(value: unknown, path: readonly string[] = []): void {
  if (typeof value !== "object" || value === null) return;
  if (path.length >= maxLevels)
    throw invalid(
      path.slice(0, 3),
      `the settings have more than ${maxLevels} levels`,
      "nest lists and mappings less deeply",
    );
  for (const [key, inner] of Object.entries(value)) {
    const at = [...path, key];
    if (key === "__proto__") throw invalid(at, "__proto__ is not a key", "remove it");
    checkShape(inner, at);
  }
}

function invalid(path: readonly string[], message: string, fix: string): AdminError {
  return new AdminError(400, "invalid_route", "the route is invalid", {
    problems: [
      { ...{ severity: "error", file: "", line: 1, column: 1, path: path.join(".") }, message, fix },
    ],
  });
}
