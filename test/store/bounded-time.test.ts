import { expect, it } from "vitest";
import { boundedTime } from "../../src/store/database.ts";

const [first, last] = ["0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z"];

/** As the drivers of Postgres and of the embedded database parse them. */
it.each([
  ["infinity", Number.POSITIVE_INFINITY, last],
  ["-infinity", Number.NEGATIVE_INFINITY, first],
  ["infinity", new Date("infinity"), last],
  ["-infinity", new Date("-infinity"), first],
  ["290000-01-01 00:00:00+00", new Date(Number.NaN), last],
  ["4713-01-01 00:00:00+00 BC", new Date("-004712-01-01T00:00:00Z"), first],
  ["2026-12-01 12:34:56.789+00", new Date("2026-12-01T12:34:56.789Z"), "2026-12-01T12:34:56.789Z"],
])("the time %s, parsed as %s, is %s", (text, parsed, expected) => {
  expect(boundedTime(text, parsed).toISOString()).toBe(expected);
});
