import { expect, test } from "vitest";
import { fuzz } from "./fuzz.ts";

/* `make fuzz` is the long form. */
test("mutated messages: no crash, no hang, no 5xx but a documented one, no allow", {
  timeout: 300_000,
}, async () => {
  const { reactions } = await fuzz(2000, 20_261_121);
  // They went deep enough to be judged, not only to be unreadable.
  expect(Number(reactions.check?.[401])).toBeGreaterThan(10);
  expect(Number(reactions.token?.[401])).toBeGreaterThan(10);
  expect(Number(reactions.http?.[400])).toBeGreaterThan(10);
});
