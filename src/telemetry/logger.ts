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
        censor: "[redacted]",
      },
    },
    options.destination ?? pino.destination({ sync: false }),
  );
}
