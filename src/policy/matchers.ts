import ipaddr from "ipaddr.js";
import type { PolicyMatcher } from "../model/route.ts";

/** A rule cannot be compiled. `code` is stable; the message names the criterion and the fix. */
export class PolicyError extends Error {
  readonly code = "policy_invalid";
  override readonly name = "PolicyError";
}

/** A compiled matcher over the values of a criterion (one, or a list). `absent` is the result without a value. */
export interface CompiledMatcher {
  matches(values: readonly string[]): boolean;
  /** Whether a missing value matches: true for `not_in` only. Used in deny rules only. */
  readonly absent: boolean;
}

/**
 * Compiles a string matcher. On a list of values, `is` requires exactly that one value, `not_in` requires that none of them is
 * listed, and all others require at least one match.
 *
 * @param fold applied to both sides, for case-insensitive values.
 * @throws PolicyError for matchers that do not apply here or would match everything.
 */
export function compileMatcher(
  matcher: PolicyMatcher,
  fold: (value: string) => string = (value) => value,
): CompiledMatcher {
  switch (matcher.kind) {
    case "is":
    case "has": {
      const wanted = fold(String(matcher.value));
      return matcher.kind === "is"
        ? { matches: (values) => values.length === 1 && fold(values[0] ?? "") === wanted, absent: false }
        : { matches: (values) => values.some((value) => fold(value) === wanted), absent: false };
    }
    case "starts_with":
    case "ends_with":
    case "contains": {
      const part = fold(String(matcher.value));
      if (part === "")
        throw new PolicyError(`${matcher.kind}: "" matches everything; name a part to look for`);
      const has = {
        starts_with: (value: string) => value.startsWith(part),
        ends_with: (value: string) => value.endsWith(part),
        contains: (value: string) => value.includes(part),
      }[matcher.kind];
      return { matches: (values) => values.some((value) => has(fold(value))), absent: false };
    }
    case "in":
    case "not_in": {
      const listed = new Set(matcher.values.map((value) => fold(String(value))));
      return matcher.kind === "in"
        ? { matches: (values) => values.some((value) => listed.has(fold(value))), absent: false }
        : { matches: (values) => !values.some((value) => listed.has(fold(value))), absent: true };
    }
    case "all": {
      if (matcher.matchers.length === 0)
        throw new PolicyError("a matcher without operators matches everything");
      const all = matcher.matchers.map((part) => compileMatcher(part, fold));
      return {
        matches: (values) => all.every((part) => part.matches(values)),
        absent: all.every((part) => part.absent),
      };
    }
    default:
      throw new PolicyError(`the matcher ${matcher.kind} does not apply here; use is, in or starts_with`);
  }
}

/** `undefined`: the address cannot be read. */
type AddressTest = (address: string | undefined) => boolean | undefined;

/**
 * Compiles a `source_ip` matcher: addresses or CIDR blocks under `is`, `in` or `not_in`. IPv4-mapped IPv6 addresses
 * (`::ffff:10.0.0.1`) are treated as IPv4.
 *
 * @throws PolicyError for a value that is neither an address nor a block.
 */
export function compileAddressMatcher(matcher: PolicyMatcher): AddressTest {
  if (matcher.kind === "all") {
    if (matcher.matchers.length === 0) throw new PolicyError("source_ip needs an address or a CIDR block");
    const tests = matcher.matchers.map(compileAddressMatcher);
    return (address) => {
      const answers = tests.map((test) => test(address));
      return answers.includes(undefined) ? undefined : answers.every(Boolean);
    };
  }
  if (matcher.kind !== "is" && matcher.kind !== "in" && matcher.kind !== "not_in") {
    throw new PolicyError(`source_ip takes is, in and not_in, not ${matcher.kind}`);
  }
  const values = "values" in matcher ? matcher.values : [matcher.value];
  const blocks = values.map((value) => parseBlock(String(value)));
  const wanted = matcher.kind !== "not_in";
  return (address) => {
    const parsed = parseAddress(address);
    if (!parsed) return undefined;
    return blocks.some((block) => block[0].kind() === parsed.kind() && parsed.match(block)) === wanted;
  };
}

function parseBlock(value: string): [ipaddr.IPv4 | ipaddr.IPv6, number] {
  if (value.includes("/") && ipaddr.isValidCIDR(value)) return ipaddr.parseCIDR(value);
  const address = parseAddress(value);
  if (!address)
    throw new PolicyError(`"${value}" is neither an IP address nor a CIDR block such as 10.0.0.0/8`);
  return [address, address.kind() === "ipv4" ? 32 : 128];
}

/** IPv4 in four decimal parts only: the library also accepts `10.1` and `0x7f.1`. */
function parseAddress(value: string | undefined): ipaddr.IPv4 | ipaddr.IPv6 | undefined {
  if (value === undefined) return undefined;
  const readable = ipaddr.IPv4.isValidFourPartDecimal(value) || ipaddr.IPv6.isValid(value);
  return readable ? ipaddr.process(value) : undefined;
}

type Test = (now: number) => boolean;

/**
 * Compiles `date` and `time_of_day` matchers: `after` and `before`, both exclusive.
 *
 * Dates are ISO 8601, in UTC unless they have an offset. Times are `15:04[:05]`, `3PM`, `3:04 PM`, in `timeZone`, an IANA name.
 *
 * @returns a test of an instant in milliseconds.
 * @throws PolicyError for invalid dates, times or zones.
 */
export function compileTimeMatcher(
  criterion: "date" | "time_of_day",
  matcher: PolicyMatcher,
  timeZone = "UTC",
): Test {
  if (matcher.kind === "all") {
    if (matcher.matchers.length === 0) throw new PolicyError(`${criterion} needs after or before`);
    const tests = matcher.matchers.map((part) => compileTimeMatcher(criterion, part, timeZone));
    return (now) => tests.every((test) => test(now));
  }
  if (matcher.kind !== "after" && matcher.kind !== "before") {
    throw new PolicyError(`${criterion} takes after and before, not ${matcher.kind}`);
  }
  const value = String(matcher.value);
  const at = criterion === "date" ? parseDate(value) : parseTimeOfDay(value);
  const position = criterion === "date" ? (now: number) => now : millisecondsOfDay(timeZone);
  return matcher.kind === "after" ? (now) => position(now) > at : (now) => position(now) < at;
}

function parseDate(value: string): number {
  const iso = /^\d{4}-\d{2}-\d{2}(?:([Tt ])\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?([Zz]|[+-]\d{2}:?\d{2})?$/.exec(
    value,
  );
  // Without an offset, JavaScript would assume local time; UTC is the same on every replica.
  const instant = iso ? Date.parse(iso[1] && !iso[2] ? `${value.replace(" ", "T")}Z` : value) : Number.NaN;
  if (Number.isNaN(instant))
    throw new PolicyError(`"${value}" is not an ISO 8601 date such as 2026-01-31T16:20:00Z`);
  return instant;
}

function parseTimeOfDay(value: string): number {
  const match = /^(\d{1,2})(?::(\d{2})(?::(\d{2})(?:\.\d{1,9})?)?)?\s*([AaPp][Mm])?$/.exec(value.trim());
  const [hours, minutes, seconds] = [Number(match?.[1]), Number(match?.[2] ?? 0), Number(match?.[3] ?? 0)];
  const half = match?.[4]?.toLowerCase();
  const hoursFit = half ? hours >= 1 && hours <= 12 : hours <= 23 && match?.[2] !== undefined;
  if (!match || !hoursFit || minutes > 59 || seconds > 59) {
    throw new PolicyError(`"${value}" is not a time of day such as 15:04, 15:04:05 or 3:04PM`);
  }
  const hour = half ? (hours % 12) + (half === "pm" ? 12 : 0) : hours;
  return ((hour * 60 + minutes) * 60 + seconds) * 1000;
}

function millisecondsOfDay(timeZone: string): (now: number) => number {
  let format: Intl.DateTimeFormat;
  try {
    format = new Intl.DateTimeFormat("en-GB", {
      timeZone,
      hourCycle: "h23",
      hour: "numeric",
      minute: "numeric",
      second: "numeric",
    });
  } catch (cause) {
    throw new PolicyError(`"${timeZone}" is not a time zone such as Europe/Berlin`, { cause });
  }
  return (now) => {
    const parts = { hour: 0, minute: 0, second: 0 };
    for (const { type, value } of format.formatToParts(now)) {
      if (type === "hour" || type === "minute" || type === "second") parts[type] = Number(value);
    }
    return ((parts.hour * 60 + parts.minute) * 60 + parts.second) * 1000 + (now % 1000);
  };
}
