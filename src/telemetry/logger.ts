import { type DestinationStream, type Logger, pino, stdTimeFunctions } from "pino";

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

/** JSON lines on `destination` (default: standard output). Secrets are redacted by field name at every level. */
export function createLogger(options: {
  level: "trace" | "debug" | "info" | "warn" | "error" | "silent";
  destination?: DestinationStream;
}): Logger {
  return pino(
    {
      level: options.level,
      base: { service: "envoy-mcp-auth" },
      timestamp: stdTimeFunctions.isoTime,
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
