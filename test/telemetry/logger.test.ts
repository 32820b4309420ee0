import { describe, expect, test, vi } from "vitest";
import { createLogger, limitedBy } from "../../src/telemetry/logger.ts";

/** The lines written for one log call with `fields`. */
function linesOf(fields: object): string[] {
  const written: string[] = [];
  const write = (text: string) => void written.push(text);
  createLogger({ level: "trace", destination: { write } }).info(fields, "x");
  return written.join("").trimEnd().split("\n");
}

function logged(fields: object): Record<string, unknown> {
  return JSON.parse(linesOf(fields)[0] ?? "");
}

describe("the log", () => {
  test.each([
    "access_token",
    "accessToken",
    "refresh_token",
    "refreshToken",
    "id_token",
    "idToken",
    "token",
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
    "code",
  ])("shows no %s, at whatever depth", (name) => {
    const secret = "s3cr3t-s3cr3t";
    expect(
      JSON.stringify(logged({ [name]: secret, a: { [name]: secret, b: { [name]: secret } } })),
    ).not.toContain(secret);
  });

  test("shows error codes, but not authorization codes", () => {
    expect(logged({ code: "store_unavailable" }).code).toBe("store_unavailable");
    expect(logged({ err: { code: "ECONNREFUSED" } }).err).toMatchObject({ code: "ECONNREFUSED" });
    expect(logged({ code: "SplxlOBeZQQYbYS6WxSbIA" }).code).toBe("[redacted]");
    expect(logged({ params: { code: "dGhpcyBpcyBhIGNvZGU" } }).params).toEqual({ code: "[redacted]" });
  });

  test("has one line per event, whatever a caller sends", () => {
    const lines = linesOf({ path: '/a\r\n{"level":"info","msg":"forged"}\u2028' });
    expect(lines).toHaveLength(1);
    expect(JSON.parse(lines[0] ?? "").msg).toBe("x");
  });

  test("limits the lines per message without a known user; the rest is counted in one line", () => {
    vi.useFakeTimers();
    try {
      const lines: string[] = [];
      let dropped = 0;
      const logger = createLogger({
        level: "info",
        destination: { write: (line) => lines.push(line) },
        linesPerMinute: () => 3,
        onDrop: () => dropped++,
      });
      for (let count = 0; count < 10; count++) logger.warn({ code: `c${count}` }, "rejected");
      for (let count = 0; count < 5; count++) logger.info({ userId: "company/alice" }, "rejected");
      logger.info("another message");
      expect([lines.length, dropped]).toEqual([9, 7]);
      vi.advanceTimersByTime(60_000);
      expect(JSON.parse(lines.at(-1) ?? "")).toMatchObject({ level: "warn", msg: "rejected", dropped: 7 });
      expect(lines.length).toBe(10);
    } finally {
      vi.useRealTimers();
    }
  });

  test("limits lines by a reason that concerns everybody at once, even with a known user", () => {
    vi.useFakeTimers();
    try {
      const lines: string[] = [];
      const logger = createLogger({
        level: "info",
        destination: { write: (line) => lines.push(line) },
        linesPerMinute: () => 3,
      });
      for (const reason of ["too_many_callers", "store_unavailable"])
        for (let count = 0; count < 10; count++)
          logger.info({ userId: `company/user${count}`, reason, [limitedBy]: { reason } }, "request denied");
      logger.info({ userId: "company/alice", reason: "denied" }, "request denied");
      expect(lines).toHaveLength(7);
      vi.advanceTimersByTime(60_000);
      expect(lines.slice(-2).map((line) => JSON.parse(line))).toMatchObject([
        { msg: "request denied", reason: "too_many_callers", dropped: 7 },
        { msg: "request denied", reason: "store_unavailable", dropped: 7 },
      ]);
    } finally {
      vi.useRealTimers();
    }
  });
});
