import { type DestinationStream, type Logger, pino, stdTimeFunctions } from "pino";
import { boundedCache } from "../util/bounded-cache.ts";

const minuteMs = 60_000;
/** Messages are few; some name a host that somebody else chose. */
const maxMessages = 1_000;

/** How many lines of each message may be written. */
export interface LineBudget {
  /** @param count called once at the end of the minute, with how many lines were dropped in it; not when none were */
  take(message: string, count: (dropped: number) => void): boolean;
}

export function lineBudget(perMinute: number): LineBudget {
  const spent = boundedCache<string, { written: number; dropped: number; readonly until: number }>(
    maxMessages,
  );
  return {
    take(message, count) {
      const now = performance.now();
      let entry = spent.get(message);
      if (!entry || entry.until <= now) {
        entry = { written: 0, dropped: 0, until: now + minuteMs };
        spent.set(message, entry);
      }
      if (entry.written < perMinute) {
        entry.written += 1;
        return true;
      }
      entry.dropped += 1;
      const of = entry;
      if (of.dropped === 1) setTimeout(() => count(of.dropped), of.until - now).unref();
      return false;
    },
  };
}

export type { Logger } from "pino";

/** Field names whose values never reach a log, wherever they stand in the first three levels of an object. */
const secretFields = [
  "access_token",
  "accessToken",
  "refresh_token",
  "refreshToken",
  "id_token",
  "idToken",
  "token",
  "code",
  "code_verifier",
  "codeVerifier",
  "client_secret",
  "clientSecret",
  "client_assertion",
  "assertion",
  "subject_token",
  "authorization",
  "Authorization",
  "cookie",
  "set-cookie",
  "password",
  "state",
];

const errorCode = /^(?:[a-z]{2,24}(?:_[a-z]{1,24}){0,5}|[A-Z]{2,24}(?:_[A-Z0-9]{1,24}){0,5})$/;

const info = 30;

/**
 * JSON lines on `destination` (default: standard output). Secrets are redacted by field name at every level.
 * @param options.linesPerMinute of one message, from `info` up, that name no known person (`userId`): anybody can make us write
 * them. What comes beyond is dropped, and one line at the end of the minute counts it. Default: 60
 * @param options.onDrop told of each line that is dropped
 */
export function createLogger(options: {
  level: "trace" | "debug" | "info" | "warn" | "error" | "silent";
  destination?: DestinationStream;
  linesPerMinute?: number;
  onDrop?: () => void;
}): Logger {
  const budget = lineBudget(options.linesPerMinute ?? 60);
  return pino(
    {
      level: options.level,
      base: { service: "envoy-mcp-auth" },
      timestamp: stdTimeFunctions.isoTime,
      hooks: {
        logMethod(inputs, method, level) {
          const [fields, message] = inputs as unknown[];
          const known = typeof fields === "object" && fields !== null && "userId" in fields && fields.userId;
          const text = typeof message === "string" ? message : typeof fields === "string" ? fields : "";
          if (
            level < info ||
            known ||
            budget.take(text, (dropped) => method.apply(this, [{ dropped }, text]))
          )
            method.apply(this, inputs);
          else options.onDrop?.();
        },
      },
      formatters: { level: (label) => ({ level: label }) },
      redact: {
        paths: secretFields.flatMap((field) => {
          const name = /^\w+$/.test(field) ? `.${field}` : `["${field}"]`;
          return [/^\w+$/.test(field) ? field : `["${field}"]`, `*${name}`, `*.*${name}`];
        }),
        censor: (value: unknown, path: string[]) =>
          path.at(-1) === "code" && isErrorCode(value) ? value : "[redacted]",
      },
    },
    options.destination ?? pino.destination({ sync: false }),
  );
}

/** `code` is an authorization code to OAuth and an error's name to us: words, which no code worth stealing is made of. */
function isErrorCode(value: unknown): boolean {
  return typeof value === "number" || (typeof value === "string" && errorCode.test(value));
}

/** The least time between two lines about the same thing, ms. */
const quietMs = 10_000;

/**
 * For what strangers can cause at any rate: reports at once, then at most every ten seconds, with how often it has happened
 * since the report before.
 *
 * @param report gets the number of occurrences that it speaks for, itself included.
 */
export function reportNowAndThen(report: (times: number) => void): () => void {
  let quietUntil = 0;
  let times = 0;
  return () => {
    times += 1;
    const now = performance.now();
    if (now < quietUntil) return;
    quietUntil = now + quietMs;
    report(times);
    times = 0;
  };
}
