import type { PolicyCaller, PolicyInput } from "../model/subject.ts";
import type { PolicyDecision } from "./policy-decision.ts";

/** The compiled policy of one route. Stateless and synchronous; nothing here throws. */
export interface RoutePolicy {
  readonly routeId: string;
  /**
   * Whether `decide` wants the raw body (a tool policy, or a tool-call rate limit). Envoy must hand it over as bytes
   * (`pack_as_bytes`): as a string it replaces what is not UTF-8, and we would read another body than the upstream does.
   */
  readonly needsBody: boolean;
  /** Bytes; 0 where no body is needed. */
  readonly maxBodyBytes: number;
  decide(input: PolicyInput): PolicyDecision;
  /** The denial that is certain whatever the body says; undefined: the body decides, or holds the ids to answer. Reads no body. */
  denyBeforeBody(input: PolicyInput): Extract<PolicyDecision, { readonly kind: "deny" }> | undefined;
  /** Whether some request of this caller could be allowed now: which routes a listing shows (F5.2), F5.1's audiences. */
  mayReach(caller: PolicyCaller, now: number): boolean;
}

/** A rule that could not be compiled; its route is closed to everybody until it is mended. */
export interface PolicyProblem {
  /** Absent: the top-level policy. */
  readonly routeId?: string;
  readonly rule: string;
  readonly message: string;
}

/** Every route's policy, compiled from one loaded configuration. */
export interface PolicyTable {
  /** An unknown route's policy denies everybody. */
  forRoute(routeId: string): RoutePolicy;
  readonly problems: readonly PolicyProblem[];
}
