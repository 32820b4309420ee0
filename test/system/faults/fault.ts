import type { Call, Observation } from "./load.ts";
import type { World } from "./world.ts";

/** What a fault can use: the observations of the load, and its own calls, which are counted. */
export interface Scene extends World {
  /** All observations since this fault began. */
  seen(): readonly Observation[];
  /** Makes these calls at `perSecond` for `ms`, in addition to the steady load. */
  hammer(calls: readonly Call[], perSecond: number, ms: number): Promise<readonly Observation[]>;
  /** Stops or continues the steady load. */
  rest(isResting: boolean): void;
  /** Counts a call made by the fault. */
  count(observation: Observation): void;
  /** Lets the load run for `ms`; shorter in a short run. */
  pause(ms: number): Promise<void>;
  /** Whether to run only the most significant part. */
  readonly short: boolean;
}

/** A failure injected under load. */
export interface Fault {
  readonly name: string;
  /** Included in the short run. */
  readonly short?: boolean;
  /** Injects the fault and reverts it; returns a note for the table, and the targets of its own that were missed. */
  run(
    scene: Scene,
  ): Promise<string | undefined | { readonly note: string; readonly missed: readonly string[] }>;
  /** Rows of `upstream_token` that this fault adds or removes on purpose. */
  readonly expectedConnections?: (world: World) => number;
}
