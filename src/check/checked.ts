import type { Route } from "../config/route.ts";
import type { Decision } from "./decision.ts";

/** A decision with what the one log line and the metrics say of it. */
export interface Checked {
  readonly decision: Decision;
  /** Stable machine word: why. */
  readonly reason: string;
  readonly route?: Route;
  readonly userId?: string;
  /** By which MCP client, under which grant: of refusals only, for the audit trail. */
  readonly clientId?: string;
  readonly grantId?: string;
  /** The policy rule that decided; for the log only. */
  readonly rule?: string;
}
