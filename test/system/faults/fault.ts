import type { Call, Observation } from "./load.ts";
import type { World } from "./world.ts";

/** What a fault can do besides harm: look at what the load sees, and make calls of its own that count. */
export interface Scene extends World {
  /** All that was observed since this fault began. */
  seen(): readonly Observation[];
  /** Makes these calls at `perSecond` for `ms`, besides the steady load. */
  hammer(calls: readonly Call[], perSecond: number, ms: number): Promise<readonly Observation[]>;
  /** Stops the steady load, or lets it go on. */
  rest(isResting: boolean): void;
  /** Counts a call that the fault made by itself. */
  count(observation: Observation): void;
  /** Lets the load go on for `ms`; a short run takes a part of it. */
  pause(ms: number): Promise<void>;
  /** Whether only the most telling part is to be shown. */
  readonly short: boolean;
}

/** Something that goes wrong while people work. */
export interface Fault {
  readonly name: string;
  /** Part of the short run, too. */
  readonly short?: boolean;
  /** Does it and mends it; returns a figure worth a word in the table. */
  run(scene: Scene): Promise<string | undefined>;
  /** Rows of `upstream_token` that this fault adds or takes away on purpose. */
  readonly expectedConnections?: (world: World) => number;
}
