/** The operand of a criterion, and its matchers. */
export interface CriterionWords {
  /**
   * `none`: no value (`accept: true`). `string`: one string of the request or the caller. `list`: a list of them.
   * `address`: IP addresses and CIDR blocks. `date`, `time`: before and after.
   */
  readonly operandType: "none" | "string" | "list" | "address" | "date" | "time";
  /** Matchers in the file; `not` and `exclude` are parsed into the others. */
  readonly matchers: readonly string[];
  /** What a bare value (`email: a@b.c`) means. */
  readonly bare?: "is" | "has" | "in";
}

const string = {
  operandType: "string",
  matchers: ["is", "not", "in", "not_in", "starts_with", "ends_with", "contains"],
  bare: "is",
} as const;
const list = {
  operandType: "list",
  matchers: ["has", "is", "exclude", "in", "not_in"],
  bare: "has",
} as const;
const none = { operandType: "none", matchers: [] } as const;

/**
 * The criteria of the policy language, shared by the parser here and the compiler in `policy/`. Over a list, `has` means one element equals
 * the value, `is` that it is the only element, `in` that any element is among the values, `not_in` that none is.
 */
export const policyVocabulary = {
  accept: none,
  reject: none,
  authenticated_user: none,
  email: string,
  domain: string,
  user: string,
  groups: list,
  claim: list,
  mcp_tool: string,
  http_method: string,
  http_path: string,
  date: { operandType: "date", matchers: ["before", "after"] },
  time_of_day: { operandType: "time", matchers: ["timezone", "before", "after"] },
  source_ip: { operandType: "address", matchers: ["in"], bare: "in" },
} as const satisfies Readonly<Record<string, CriterionWords>>;

/** The name of a criterion. */
export type CriterionName = keyof typeof policyVocabulary;

/** The vocabulary of a criterion; undefined for an unknown one. */
export function criterionWords(name: string): CriterionWords | undefined {
  return isCriterionName(name) ? policyVocabulary[name] : undefined;
}

export function isCriterionName(name: string): name is CriterionName {
  return Object.hasOwn(policyVocabulary, name);
}
