import ipaddr from "ipaddr.js";
import type { PolicyMatcher, PolicyNode, PolicyRule, PolicySource } from "../model/route.ts";
import { type CriterionWords, criterionWords, policyVocabulary } from "./policy-vocabulary.ts";
import { closest, type Reporter } from "./reporter.ts";
import type { ConfigPath } from "./yaml-source.ts";

/** `16:30`, `16:30:00`, `4:30PM` or `4 PM` as `HH:MM:SS`; undefined otherwise, also for a YAML number (16:30 in base 60). */
export function timeOfDay(value: string | number | boolean): string | undefined {
  const match = /^(\d{1,2})(?::(\d\d)(?::(\d\d)(?:\.\d+)?)?)? ?([AP]M)?$/i.exec(String(value).trim());
  if (match === null) return undefined;
  const [, hourText, minute = "00", second = "00", half] = match;
  let hour = Number(hourText);
  if (half === undefined) {
    if (match[2] === undefined || hour > 23) return undefined;
  } else {
    if (hour < 1 || hour > 12) return undefined;
    hour = (hour % 12) + (half.toUpperCase() === "PM" ? 12 : 0);
  }
  if (Number(minute) > 59 || Number(second) > 59) return undefined;
  return `${String(hour).padStart(2, "0")}:${minute}:${second}`;
}

type Scalar = string | number | boolean;
const operators = ["and", "or", "not", "nor"] as const;

/** Unsupported criteria of Pomerium, and what to use instead. A policy with one is rejected: ignoring it would change what it allows. */
const foreignCriteria: Readonly<Record<string, string>> = {
  client_certificate: "check client certificates in Envoy (require_client_certificate)",
  invalid_client_certificate: "check client certificates in Envoy (require_client_certificate)",
  cors_preflight: "leave it out: preflight requests are answered before policy",
  pomerium_routes: "leave it out: paths of the gateway itself need no policy",
  day_of_week: "use date or time_of_day",
  device: "use a claim of your OpenID provider (claim/NAME)",
  record: "use a claim of your OpenID provider (claim/NAME)",
  ssh_publickey: "leave it out: SSH is not supported",
  ssh_username: "leave it out: SSH is not supported",
};

/**
 * Parses Pomerium's policy language. Several operators in a rule are alternatives, as in Pomerium; each becomes a separate rule. Reports
 * everything that it cannot parse. @returns undefined if there is anything
 */
export function parsePolicy(value: unknown, path: ConfigPath, reporter: Reporter): PolicySource | undefined {
  const rules: PolicyRule[] = [];
  let good = true;
  const fail = (at: ConfigPath, message: string, fix: string, part: "key" | "value" = "key") => {
    reporter.error(at, message, fix, part);
    good = false;
  };
  const blocks: [ConfigPath, unknown][] = Array.isArray(value)
    ? value.map((block, index) => [[...path, index], block])
    : [[path, value]];
  if (blocks.length === 0) fail(path, "the policy is empty", "write an allow rule, or leave the key out");

  for (const [blockPath, block] of blocks) {
    if (!isMapping(block)) {
      fail(
        blockPath,
        "a policy rule must be a mapping",
        "write allow: {and: [...]} or deny: {or: [...]}",
        "value",
      );
      continue;
    }
    if (Object.keys(block).length === 0) {
      fail(blockPath, "the rule is empty", "write allow: {and: [...]} or deny: {or: [...]}", "value");
    }
    for (const [action, body] of Object.entries(block)) {
      const actionPath = [...blockPath, action];
      if (action !== "allow" && action !== "deny") {
        fail(actionPath, `unknown action ${JSON.stringify(action)}`, "write allow or deny");
        continue;
      }
      if (!isMapping(body) || Object.keys(body).length === 0) {
        fail(
          actionPath,
          `${action} needs an operator`,
          "write and, or, not or nor with a list of criteria under it",
        );
        continue;
      }
      for (const [operator, criteria] of Object.entries(body)) {
        const when = parseOperator(operator, criteria, [...actionPath, operator], fail);
        if (when !== undefined) rules.push({ action, name: nameOf([...actionPath, operator]), when });
      }
    }
  }
  return good ? rules : undefined;
}

type Fail = (at: ConfigPath, message: string, fix: string, part?: "key" | "value") => void;

function parseOperator(
  operator: string,
  criteria: unknown,
  path: ConfigPath,
  fail: Fail,
): PolicyNode | undefined {
  if (!operators.some((known) => known === operator)) {
    fail(path, `unknown operator ${JSON.stringify(operator)}`, "write and, or, not or nor");
    return undefined;
  }
  if (!Array.isArray(criteria) || criteria.length === 0) {
    fail(
      path,
      `${operator} needs a list of criteria`,
      `write ${operator}: followed by a list such as - email: a@b.c`,
    );
    return undefined;
  }
  const nodes = criteria.flatMap((criterion, index) => {
    const node = parseCriterion(criterion, [...path, index], fail);
    return node === undefined ? [] : [node];
  });
  if (operator === "and" || operator === "or") return { op: operator, nodes };
  const negated: PolicyNode[] = nodes.map((node) => ({ op: "not", nodes: [node] }));
  return { op: operator === "not" ? "and" : "or", nodes: negated };
}

function parseCriterion(value: unknown, path: ConfigPath, fail: Fail): PolicyNode | undefined {
  const entries = isMapping(value) ? Object.entries(value) : [];
  const [key, data] = entries[0] ?? [];
  if (key === undefined || entries.length > 1) {
    fail(
      path,
      "a criterion must have exactly one key",
      "write each criterion as a separate list item",
      "value",
    );
    return undefined;
  }
  if (operators.some((known) => known === key)) return parseOperator(key, data, [...path, key], fail);
  const slash = key.indexOf("/");
  const name = slash < 0 ? key : key.slice(0, slash);
  const claim = slash < 0 ? undefined : key.slice(slash + 1);
  const at = [...path, key];
  const words = criterionWords(name);
  if (words === undefined) {
    const known = Object.keys(policyVocabulary);
    const near = closest(name, known);
    const foreign = Object.hasOwn(foreignCriteria, name) ? foreignCriteria[name] : undefined;
    const instead = foreign ?? (near === undefined ? `known: ${known.join(", ")}` : `did you mean ${near}?`);
    fail(at, `unknown criterion ${JSON.stringify(name)}`, instead);
    return undefined;
  }
  if (name === "claim" && !claim) {
    fail(at, "claim needs a claim name", "write claim/NAME: value");
    return undefined;
  }
  if (name !== "claim" && claim !== undefined) {
    fail(at, `${name} does not take /${claim}`, `write ${name}`);
    return undefined;
  }
  if (name === "reject")
    return { op: "not", nodes: [{ op: "criterion", criterion: "accept", matcher: { kind: "always" } }] };
  return parseMatchers({ name, claim, words, data, at }, fail);
}

interface Criterion {
  readonly name: string;
  readonly claim: string | undefined;
  readonly words: CriterionWords;
  readonly data: unknown;
  readonly at: ConfigPath;
}

function parseMatchers(criterion: Criterion, fail: Fail): PolicyNode | undefined {
  const { name, words, at } = criterion;
  if (words.operandType === "none") return node(criterion, { kind: "always" });
  let data = criterion.data;
  if (!isMapping(data)) {
    if (words.bare === undefined) {
      fail(at, `${name} needs ${words.matchers.join(" or ")}`, `write ${name}: {${words.matchers[0]}: ...}`);
      return undefined;
    }
    data = { [words.bare === "is" && Array.isArray(data) ? "in" : words.bare]: data };
  }
  const matchers: PolicyMatcher[] = [];
  const excluded: PolicyNode[] = [];
  let timezone: string | undefined;
  let good = true;
  const reject: Fail = (...problem) => {
    fail(...problem);
    good = false;
  };
  for (const [word, operand] of Object.entries(data as Record<string, unknown>)) {
    const path = isMapping(criterion.data) ? [...at, word] : at;
    if (!words.matchers.includes(word)) {
      const near = closest(word, words.matchers);
      const fix = near === undefined ? `${name} takes ${words.matchers.join(", ")}` : `did you mean ${near}?`;
      reject(path, `unknown matcher ${JSON.stringify(word)} for ${name}`, fix);
    } else if (word === "timezone") {
      if (typeof operand === "string" && isTimezone(operand)) timezone = operand;
      else
        reject(
          path,
          `${JSON.stringify(operand)} is not a time zone`,
          "write a city such as Europe/Berlin, or UTC",
          "value",
        );
    } else if (word === "exclude") {
      const matcher = parseMatcher("has", operand, criterion, path, reject);
      if (matcher !== undefined) excluded.push({ op: "not", nodes: [node(criterion, matcher)] });
    } else if (word === "not") {
      const matcher = parseMatcher("not_in", [operand], criterion, path, reject);
      if (matcher !== undefined) matchers.push(matcher);
    } else {
      const matcher = parseMatcher(word, operand, criterion, path, reject);
      if (matcher !== undefined) matchers.push(matcher);
    }
  }
  if (good && matchers.length + excluded.length === 0) {
    reject(at, `${name} has no matcher`, `write one of ${words.matchers.join(", ")}`);
  }
  if (words.operandType === "time" && timezone === undefined && good) {
    reject(at, "time_of_day needs a timezone", "add timezone: UTC, or a city such as Europe/Berlin");
  }
  if (!good) return undefined;
  const [first, ...others] = matchers;
  const nodes = [...excluded];
  if (first !== undefined) {
    nodes.unshift(node(criterion, others.length === 0 ? first : { kind: "all", matchers }, timezone));
  }
  const [only, ...more] = nodes;
  return only !== undefined && more.length === 0 ? only : { op: "and", nodes };
}

function node(criterion: Criterion, matcher: PolicyMatcher, timezone?: string): PolicyNode {
  return {
    op: "criterion",
    criterion: criterion.name,
    ...(criterion.claim === undefined ? {} : { claim: criterion.claim }),
    ...(timezone === undefined ? {} : { timezone }),
    matcher,
  };
}

function parseMatcher(
  word: string,
  operand: unknown,
  criterion: Criterion,
  path: ConfigPath,
  fail: Fail,
): PolicyMatcher | undefined {
  const { name, words } = criterion;
  if (word === "in" || word === "not_in") {
    const values = words.operandType === "address" && isScalar(operand) ? [operand] : operand;
    if (
      !Array.isArray(values) ||
      values.length === 0 ||
      !values.every((value) => isScalar(value) && value !== "")
    ) {
      fail(path, `${word} needs a list of values`, `write ${word}: [a, b]`, "value");
      return undefined;
    }
    const bad = words.operandType === "address" ? values.find((value) => !isAddress(value)) : undefined;
    if (bad !== undefined) {
      fail(
        path,
        `${JSON.stringify(bad)} is not an IP address`,
        "write an IP address or a CIDR block such as 10.0.0.0/8",
        "value",
      );
      return undefined;
    }
    return { kind: word, values };
  }
  if (operand === "") {
    fail(
      path,
      `${word}: "" ${word === "is" || word === "has" ? "matches nobody" : "matches everything"}`,
      "write the value to look for",
      "value",
    );
    return undefined;
  }
  if (!isScalar(operand)) {
    fail(
      path,
      `${word} needs one value`,
      `write ${word}: value${name === "groups" ? " (several: in: [a, b])" : ""}`,
      "value",
    );
    return undefined;
  }
  const value =
    words.operandType === "date"
      ? dateTime(operand)
      : words.operandType === "time"
        ? timeOfDay(operand)
        : operand;
  if (value === undefined) {
    const example = words.operandType === "date" ? "2026-01-31T12:00:00Z" : "16:30, 16:30:00 or 4:30PM";
    fail(path, `${JSON.stringify(operand)} is not a ${words.operandType}`, `write ${example}`, "value");
    return undefined;
  }
  if (words.operandType === "string" && typeof value !== "string" && word !== "is") {
    fail(path, `${word} needs a string`, "put the value in quotes", "value");
    return undefined;
  }
  return {
    kind: word as "is" | "starts_with" | "ends_with" | "contains" | "has" | "before" | "after",
    value: words.operandType === "string" ? String(value) : value,
  };
}

/** ISO 8601; without a time zone, UTC. */
function dateTime(value: Scalar): string | undefined {
  const text = String(value);
  if (!/^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?$/i.test(text)) return undefined;
  const zoned = /(T|\s).*(Z|[+-]\d\d:?\d\d)$/i.test(text) || !/[T ]/i.test(text) ? text : `${text}Z`;
  const date = new Date(zoned);
  return Number.isNaN(date.getTime()) ? undefined : date.toISOString();
}

function isTimezone(name: string): boolean {
  try {
    return new Intl.DateTimeFormat("en", { timeZone: name }) !== undefined;
  } catch {
    return false;
  }
}

function isAddress(value: Scalar): boolean {
  const text = String(value);
  return text.includes("/")
    ? ipaddr.isValidCIDR(text)
    : ipaddr.IPv4.isValidFourPartDecimal(text) || ipaddr.IPv6.isValid(text);
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isScalar(value: unknown): value is Scalar {
  return typeof value === "string" || typeof value === "number" || typeof value === "boolean";
}

function nameOf(path: ConfigPath): string {
  return path
    .map((step, index) => (typeof step === "number" ? `[${step}]` : `${index === 0 ? "" : "."}${step}`))
    .join("");
}
