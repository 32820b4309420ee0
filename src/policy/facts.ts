import type { PolicyCaller } from "../model/subject.ts";
import type { PathFacts } from "./path-matcher.ts";

/** What compiled criteria read. An `undefined` member is not known, and its criteria answer so. */
export interface PolicyFacts {
  readonly caller: PolicyCaller;
  /** Milliseconds since the epoch. */
  readonly now: number;
  readonly http?: PathFacts & { readonly method: string; readonly sourceIp?: string };
  /** Name of the tool that is called; `null`: the request is no tool call. */
  readonly tool?: string | null;
}

/**
 * Kleene's three values, ordered so that `and` is the minimum and `or` the maximum: 0 no, 1 not known yet, 2 yes.
 * `not known` arises only where a question leaves facts open (`mayReach`); a request's own facts are all known.
 */
export type Verdict = 0 | 1 | 2;
