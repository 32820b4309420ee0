import { type DestinationStream, type Logger, pino, stdTimeFunctions } from "pino";
import { boundedCache } from "../util/bounded-cache.ts";
import type { RecentProblems } from "./recent-problems.ts";

const minuteMs = 60_000;
/** Messages are few, but some contain an untrusted host name. */
const maxMessages = 1_000;

/** Limits how many lines of each message are written. */
export interface LineBudget {
  /** @param count called at the end of the minute with the number of dropped lines, if any */
  take(message: string, count: (dropped: number) => void): boolean;
}

function lineBudget(perMinute: () => number): LineBudget {
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
      if (entry.written < perMinute()) {
        entry.written += 1;
        return true;
      }
      entry.dropped += 1;
      const current = entry;
      if (current.dropped === 1) setTimeout(() => count(current.dropped), current.until - now).unref();
      return false;
    },
  };
}

export type { Logger } from "pino";

/** Bytes: several workers write to one pipe, which keeps the lines of such a write together (PIPE_BUF). */
const maxWrite = 4_096;

/** Fields that are redacted, in the first three levels of an object. */
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
const warn = 40;
const error = 50;

/** In the fields of a line whose number is limited although its user is known, by this cause: an outage affects all users at once. */
export const limitedBy = Symbol("limited by");

/** Value of `limitedBy`: fields of the line that counts the rest. */
export interface LineCause {
  readonly reason: string;
  readonly route?: string;
}

/**
 * Writes JSON lines to `destination` (default: standard output). Secrets are redacted by field name.
 * @param options.linesPerMinute limit per message, from `info` up, for lines without a known user (`userId`), which anyone can cause, and for those
 * with `limitedBy`; read for each. Lines beyond it are dropped and counted in one line at the end of the minute. Default: 60
 * @param options.onDrop called for each dropped line
 */
export function createLogger(options: {
  level: "trace" | "debug" | "info" | "warn" | "error" | "silent";
  destination?: DestinationStream;
  linesPerMinute?: () => number;
  onDrop?: () => void;
  /** Gets every warning and error. */
  problems?: Pick<RecentProblems, "add">;
  /** In every line: which of several workers writes it. */
  worker?: number;
}): Logger {
  const budget = lineBudget(options.linesPerMinute ?? (() => 60));
  return pino(
    {
      level: options.level,
      base: {
        service: "envoy-mcp-auth",
        ...(options.worker === undefined ? {} : { worker: options.worker }),
      },
      timestamp: stdTimeFunctions.isoTime,
      hooks: {
        logMethod(inputs, method, level) {
          const [fields, message] = inputs as unknown[];
          const isObject = typeof fields === "object" && fields !== null;
          const cause = isObject && limitedBy in fields ? (fields[limitedBy] as LineCause) : undefined;
          const known = cause === undefined && isObject && "userId" in fields && fields.userId;
          const text = typeof message === "string" ? message : typeof fields === "string" ? fields : "";
          if (level >= warn) options.problems?.add(level >= error ? "error" : "warning", text, fields);
          if (
            level < info ||
            known ||
            budget.take(cause ? `${text} ${cause.reason} ${cause.route}` : text, (dropped) =>
              method.apply(this, [{ ...cause, dropped }, text]),
            )
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
    options.destination ?? pino.destination({ sync: false, maxWrite }),
  );
}

/** A field `code` is either an authorization code or an error code. Error codes consist of words, authorization codes do not. */
function isErrorCode(value: unknown): boolean {
  return typeof value === "number" || (typeof value === "string" && errorCode.test(value));
}

/** The minimum time between two reports, ms. */
const quietMs = 10_000;

/**
 * Rate-limits reports of events that untrusted callers can cause: the first immediately, then at most one every ten seconds.
 *
 * @param report gets the number of occurrences since the previous report.
 */
export function rateLimitedReport(report: (times: number) => void): () => void {
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
