import { hasWithheldGroups, isWithheld } from "../config/claims.ts";
import { type CriterionName, isCriterionName } from "../config/policy-vocabulary.ts";
import type { PolicyMatcher, PolicyNode, PolicyRule } from "../model/route.ts";
import type { Subject } from "../model/subject.ts";
import { compilePathMatcher, type PathFacts } from "./http-path.ts";
import { compileAddressMatcher, compileMatcher, compileTimeMatcher, PolicyError } from "./matchers.ts";

/** The input of compiled criteria. If a member is `undefined`, its criteria evaluate to unknown. */
export interface PolicyFacts {
  readonly caller: Subject;
  /** Milliseconds since the epoch. */
  readonly now: number;
  readonly http?: PathFacts & { readonly method: string; readonly sourceIp?: string };
  /** Name of the called tool; `null`: the request is not a tool call. */
  readonly tool?: string | null;
}

/**
 * Kleene's three values, ordered so that `and` is the minimum and `or` the maximum: 0 no, 1 unknown, 2 yes.
 * Unknown occurs only where facts are left open (`mayReach`); all facts of a request are known.
 */
export type Verdict = 0 | 1 | 2;

/**
 * The claim `claim/PATH`, unconverted: the same object until the person's record changes. A claim whose name contains slashes
 * (`https://example.com/role`) takes precedence over nested claims. The caller's `sub`, `email`, `name` and `groups` are used
 * where the provider's claims lack them.
 */
function findClaim(caller: Subject, path: string): unknown {
  return descend(caller.claims, path) ?? fallbackClaim(caller, path);
}

function descend(within: unknown, path: string): unknown {
  if (typeof within !== "object" || within === null || Array.isArray(within)) return undefined;
  // Own members only: `claim/constructor` must not find an inherited member.
  const own = (name: string): unknown => Object.getOwnPropertyDescriptor(within, name)?.value;
  const whole = own(path);
  if (whole !== undefined) return whole;
  for (let slash = path.indexOf("/"); slash >= 0; slash = path.indexOf("/", slash + 1)) {
    const found = descend(own(path.slice(0, slash)), path.slice(slash + 1));
    if (found !== undefined) return found;
  }
  return undefined;
}

function fallbackClaim(caller: Subject, path: string): unknown {
  switch (path) {
    case "sub":
      return caller.userId;
    case "email":
      return caller.email;
    case "name":
      return caller.name;
    case "groups":
      return caller.groups;
    default:
      return undefined;
  }
}

/** The comparable values of a claim. */
function claimValues(value: unknown): readonly string[] {
  if (Array.isArray(value)) return value.flatMap((member) => scalar(member));
  return scalar(value);
}

function scalar(value: unknown): readonly string[] {
  if (typeof value === "string") return value === "" ? [] : [value];
  if (typeof value === "number" || typeof value === "boolean") return [String(value)];
  return [];
}

type Criterion = Extract<PolicyNode, { op: "criterion" }>;
type Compiled = (facts: PolicyFacts) => Verdict;

/** One criterion of a rule, and how its answers count there. */
interface InRule {
  readonly criterion: Criterion;
  /** Whether a match helps to deny. */
  readonly towardsDeny: boolean;
  /** The verdict on what cannot be read: it might be what is denied. */
  readonly unknown: Verdict;
  /** Compares values; folded first, if they are compared so. */
  evaluate(fold?: (value: string) => string): (values: readonly string[]) => Verdict;
  /** The same for values of the caller. */
  ofCaller(read: (caller: Subject) => readonly string[], fold?: (value: string) => string): Compiled;
}

/**
 * Every criterion that the parser's vocabulary names, but `reject`, which it writes as `accept` negated: the compiler asks for
 * one that is missing.
 */
const criteria: { readonly [N in Exclude<CriterionName, "reject">]: (rule: InRule) => Compiled } = {
  accept({ criterion }) {
    needsNoValue(criterion);
    return () => 2;
  },
  authenticated_user({ criterion }) {
    needsNoValue(criterion);
    return ({ caller }) => yesOrNo(typeof caller.userId === "string" && caller.userId !== "");
  },
  email: ({ ofCaller }) => ofCaller((caller) => present(caller.email), asciiLowerCase),
  domain: ({ ofCaller }) => ofCaller((caller) => present(domainOf(caller.email)), asciiLowerCase),
  user: ({ ofCaller }) => ofCaller((caller) => present(caller.userId)),
  groups({ evaluate, unknown }) {
    const evaluated = evaluate();
    const onceOf = cachedForLongLists((groups: readonly string[]) =>
      evaluated(groups.filter((one) => one !== "")),
    );
    return ({ caller }) => (hasWithheldGroups(caller) ? unknown : onceOf(caller.groups));
  },
  claim({ criterion: { claim: path }, evaluate, unknown }) {
    if (!path) throw new PolicyError("claim needs a name: claim/NAME");
    const evaluated = evaluate();
    const onceOf = cachedForLongLists((values: readonly unknown[]) => evaluated(claimValues(values)));
    return ({ caller }) => {
      if (isWithheld(caller.claims, path)) return unknown;
      const found = findClaim(caller, path);
      return Array.isArray(found) ? onceOf(found) : evaluated(claimValues(found));
    };
  },
  mcp_tool({ criterion }) {
    const matcher = compileMatcher(criterion.matcher);
    // As in Pomerium: for anything except a tool call it is false, both under deny and under allow.
    return ({ tool }) => (tool === undefined ? 1 : yesOrNo(tool !== null && matcher.matches([tool])));
  },
  http_method({ criterion }) {
    const matcher = compileMatcher(criterion.matcher, (method) => method.toUpperCase());
    return ({ http }) => (http ? yesOrNo(matcher.matches([http.method])) : 1);
  },
  http_path({ criterion, towardsDeny }) {
    const matches = compilePathMatcher(criterion.matcher, towardsDeny);
    return ({ http }) => (http ? yesOrNo(matches(http)) : 1);
  },
  source_ip({ criterion, unknown }) {
    const test = compileAddressMatcher(criterion.matcher);
    return ({ http }) => {
      if (!http) return 1;
      const answer = test(http.sourceIp);
      return answer === undefined ? unknown : yesOrNo(answer);
    };
  },
  date: ({ criterion }) => timeCriterion("date", criterion),
  time_of_day: ({ criterion }) => timeCriterion("time_of_day", criterion),
};

function timeCriterion(kind: "date" | "time_of_day", { matcher, timezone }: Criterion): Compiled {
  const test = compileTimeMatcher(kind, matcher, timezone);
  return ({ now }) => yesOrNo(test(now));
}

/**
 * Compiles one criterion to a function of the facts.
 *
 * A missing value never makes an allow rule match, whatever operators surround it: `negated` (an odd number of `not`/`nor`
 * above) inverts the result, so that the rule is false. In a deny rule a missing value equals nothing: `is` is false, `not_in` is
 * true. A value that the provider withholds (`isWithheld`) may be anything: it never makes an allow rule match, and always makes a
 * deny rule match.
 *
 * @throws PolicyError for an unknown criterion, or a matcher that it does not support.
 */
export function compileCriterion(
  criterion: Criterion,
  action: PolicyRule["action"],
  negated: boolean,
): Compiled {
  const absent = (matcherSays: boolean): Verdict => yesOrNo(action === "deny" ? matcherSays : negated);
  const towardsDeny = (action === "deny") !== negated;
  // An unreadable value might be a denied one.
  const unknown = yesOrNo(towardsDeny);
  const evaluate = (fold?: (value: string) => string) => {
    const matcher = compileMatcher(criterion.matcher, fold);
    const whenAbsent = absent(matcher.absent);
    return (values: readonly string[]): Verdict =>
      values.length === 0 ? whenAbsent : yesOrNo(matcher.matches(values));
  };
  const ofCaller = (read: (caller: Subject) => readonly string[], fold?: (value: string) => string) => {
    const evaluated = evaluate(fold);
    return ({ caller }: PolicyFacts): Verdict => evaluated(read(caller));
  };

  const name = criterion.criterion;
  if (!isCriterionName(name) || name === "reject") throw new PolicyError(`unknown criterion ${name}`);
  return criteria[name]({ criterion, towardsDeny, unknown, evaluate, ofCaller });
}

const long = 100;

/**
 * Caches the verdict for long lists: a person may have a hundred thousand groups, and checks must not search them each time.
 * Lists stay the same objects until the person's record changes, and are never modified.
 */
function cachedForLongLists<T>(
  evaluateList: (list: readonly T[]) => Verdict,
): (list: readonly T[]) => Verdict {
  const known = new WeakMap<readonly T[], Verdict>();
  return (list) => {
    if (list.length <= long) return evaluateList(list);
    const before = known.get(list);
    if (before !== undefined) return before;
    const verdict = evaluateList(list);
    known.set(list, verdict);
    return verdict;
  };
}

function yesOrNo(value: boolean): Verdict {
  return value ? 2 : 0;
}

function present(value: string | undefined): readonly string[] {
  return value ? [value] : [];
}

/** Only an address with a single `@` has a domain; parsers split quoted addresses differently. */
function domainOf(email: string | undefined): string | undefined {
  const parts = email?.split("@");
  return parts?.length === 2 ? parts[1] : undefined;
}

/** ASCII only: Unicode folding would turn `K` (Kelvin) into `k`, and one person into another. */
function asciiLowerCase(value: string): string {
  return value.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
}

function needsNoValue(criterion: { readonly criterion: string; readonly matcher: PolicyMatcher }): void {
  if (criterion.matcher.kind !== "always") throw new PolicyError(`${criterion.criterion} takes only true`);
}
