import type { Scene } from "./fault.ts";

/** Describes how long after `backAt` (the end of the fault) the last failed call was started. */
export function recovery(scene: Pick<Scene, "seen">, backAt: number): string {
  const late = scene
    .seen()
    .filter(({ outcome, startedAt }) => outcome !== "right" && startedAt > backAt)
    .map(({ startedAt }) => startedAt - backAt);
  return `recovered in ${(Math.max(0, ...late) / 1000).toFixed(1)} s`;
}
