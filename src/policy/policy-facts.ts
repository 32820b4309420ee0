import type { PolicyCaller } from "../model/subject.ts";
import type { PathFacts } from "./compile-path-matcher.ts";

/** What compiled criteria read. An `undefined` member is not known, and its criteria answer so. */
export interface PolicyFacts {
  readonly caller: PolicyCaller;
  /** Milliseconds since the epoch. */
  readonly now: number;
  readonly http?: PathFacts & { readonly method: string; readonly sourceIp?: string };
  /** Name of the tool that is called; `null`: the request is no tool call. */
  readonly tool?: string | null;
}
