import type { Route } from "../config/route.ts";
import type { Decision } from "./decision.ts";

/** A decision with what the one log line and the metrics say of it. */
export interface Checked {
  readonly decision: Decision;
  /** Stable machine word: why. */
  readonly reason: string;
  readonly route?: Route;
  readonly userId?: string;
  /** The policy rule that decided; for the log only. */
  readonly rule?: string;
}
