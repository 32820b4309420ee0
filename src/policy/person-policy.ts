import type { PolicySource } from "../model/route.ts";
import type { Subject } from "../model/subject.ts";
import { compileRules } from "./rules.ts";

/** Whether a policy about people, without a request, allows somebody. @param now Unix milliseconds */
export type PersonPolicy = (person: Subject, now: number) => boolean;

/** Compiles a policy. Without one, and if a rule cannot be compiled or fails, nobody is allowed. */
export function compilePersonPolicy(source: PolicySource | undefined): PersonPolicy {
  try {
    const rules = compileRules(source ?? []);
    return (person, now) => {
      try {
        return rules.rule({ caller: person, now, tool: null }).verdict === 2;
      } catch {
        return false;
      }
    };
  } catch {
    return () => false;
  }
}
