import type { Scene } from "./fault.ts";

/** How long after `backAt` (what was broken is mended) the last call that failed was started, in words. */
export function recovery(scene: Pick<Scene, "seen">, backAt: number): string {
  const late = scene
    .seen()
    .filter(({ outcome, startedAt }) => outcome !== "right" && startedAt > backAt)
    .map(({ startedAt }) => startedAt - backAt);
  return `recovered in ${(Math.max(0, ...late) / 1000).toFixed(1)} s`;
}
