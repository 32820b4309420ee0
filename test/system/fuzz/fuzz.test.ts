import { expect, test } from "vitest";
import { fuzz } from "./fuzz.ts";

/* `make fuzz` is the long form. */
test("mutated messages: no crash, no hang, no undocumented 5xx, no allow", {
  timeout: 300_000,
}, async () => {
  const { reactions } = await fuzz(2000, 20_261_121);
  // They were valid enough to be checked, not only unreadable.
  expect(Number(reactions.check?.[401])).toBeGreaterThan(10);
  expect(Number(reactions.token?.[401])).toBeGreaterThan(10);
  expect(Number(reactions.http?.[400])).toBeGreaterThan(10);
});
