import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { holdsToken } from "../../src/ext-authz/upstream-headers.ts";
import { createToolsStreamFilter } from "../../src/policy/event-stream-filter.ts";
import { findAmbiguousKey } from "../../src/policy/json-rpc.ts";
import { filterToolsJson } from "../../src/policy/tool-list-filter.ts";
import { parseChallenge } from "../../src/upstream-oauth/www-authenticate.ts";

/*
 * Input from unauthenticated clients and upstreams is read in the single thread that serves all: sixteen times as much may take
 * sixteen times as long, not 256 times.
 */

/** CPU time of this process, not wall-clock time, so that a stalled machine does not matter. */
function processorMs(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

/**
 * The minimum growth of time for sixteen times the work: 16 if linear, 256 if quadratic. Noise (garbage collection, a cold cache) is
 * a small factor: the limit is four times away from both. Repeats the measurement until the growth is within the limit.
 */
function growth(prepare: (size: number) => () => void, size: number): number {
  prepare(size)();
  let [less, more] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  // Minimum measurable time, a few ms.
  const ratio = () => (more + 2) / (less + 2);
  for (let times = 1; times <= 20 && !(times > 2 && ratio() < bound); times++) {
    less = Math.min(less, processorMs(prepare(size)));
    more = Math.min(more, processorMs(prepare(16 * size)));
  }
  return ratio();
}
const bound = 64;

test.each<[string, number, (size: number) => () => void]>([
  [
    "one event in single bytes",
    100_000,
    (size) => {
      const filter = createToolsStreamFilter(() => true, 10 * 1024 * 1024);
      const byte = Buffer.from("x");
      return () => {
        for (let at = 0; at < size; at++) filter.push(byte);
      };
    },
  ],
  [
    "thousands of events in one chunk",
    20_000,
    (size) => {
      const filter = createToolsStreamFilter(() => true, 10 * 1024 * 1024);
      const piece = Buffer.from("data: x\n\n".repeat(size));
      return () => void filter.push(piece);
    },
  ],
  [
    "thousands of line ends that do not end an event",
    100_000,
    (size) => {
      const filter = createToolsStreamFilter(() => true, 10 * 1024 * 1024);
      const piece = Buffer.from(":\r\n".repeat(size));
      return () => void filter.push(piece);
    },
  ],
  [
    "thousands of tool lists in one batch",
    3_000,
    (size) => {
      const list = '{"result":{"tools":[{"name":"x"}],"cacheScope":"public"}}';
      const body = Buffer.from(`[${Array.from({ length: size }, () => list).join()}]`);
      return () => void filterToolsJson(body, () => false);
    },
  ],
  [
    "thousands of tools in one list",
    10_000,
    (size) => {
      const body = Buffer.from(
        `{"result":{"tools":[${Array.from({ length: size }, () => '{"name":"x"}').join()}]}}`,
      );
      return () => void filterToolsJson(body, () => false);
    },
  ],
  [
    "an object with thousands of keys",
    20_000,
    (size) => {
      const text = `{${Array.from({ length: size }, (_, at) => `"k${at}":1`).join()}}`;
      return () => void findAmbiguousKey(text, 128);
    },
  ],
  [
    "a long token in a long path",
    50_000,
    (size) => {
      const token = `${"a".repeat(size / 4)}b${"a".repeat(size / 4)}`;
      const path = `/${"a".repeat(size)}`;
      return () => {
        for (let times = 0; times < 20; times++) holdsToken(path, token);
      };
    },
  ],
])("%s: the work grows linearly with the size", (_what, size, prepare) => {
  expect(growth(prepare, size)).toBeLessThan(bound);
});

test("an endless WWW-Authenticate is not parsed", async () => {
  const honest = 'Bearer error="insufficient_scope", scope="a b", resource_metadata="https://up.test/prm"';
  expect(parseChallenge(honest)).toMatchObject({ error: "insufficient_scope", scopes: ["a", "b"] });
  expect(parseChallenge(`${honest}, ${"a=b,".repeat(15_000)}`)).toBeUndefined();
});

test("a token in a URL is found by its end, complete or truncated", () => {
  const token = `${"h".repeat(20)}.${"p".repeat(100)}.${createHash("sha512").update("x").digest("base64url")}`;
  expect(holdsToken(`/x/${token}/y`, token)).toBe(true);
  expect(holdsToken(`/x/${token.slice(50)}`, token)).toBe(true);
  expect(holdsToken(`/x/${token.slice(0, -1)}`, token)).toBe(false);
  expect(holdsToken("/x/short", "short")).toBe(true);
  expect(holdsToken("/x", "short")).toBe(false);
});
