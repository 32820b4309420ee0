import type { PolicyMatcher } from "../model/route.ts";
import { PolicyError } from "./policy-error.ts";

type Test = (now: number) => boolean;

/**
 * Compiles `date` and `time_of_day` matchers: `after` and `before`, both exclusive.
 *
 * Dates are ISO 8601; without an offset they are UTC. Times are `15:04[:05]`, `3PM`, `3:04 PM`, in
 * `timeZone`, an IANA name.
 *
 * @returns a test of an instant in milliseconds.
 * @throws PolicyError for values that are no date, time or zone.
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
  // A time without an offset would be the server's local time: UTC is the same on every replica.
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
