import { afterAll, beforeAll, expect, test } from "vitest";
import { type E2e, startE2e } from "../support/e2e.ts";

let e2e: E2e;
beforeAll(async () => {
  e2e = await startE2e();
});
afterAll(() => e2e?.close());

test("a NUL in a form of a page is its sender's fault: no text of the database can have one", async () => {
  await e2e.externalToken("alice", e2e.urls.open);
  const browser = e2e.browser("alice");
  const connections = await browser.open("https://auth.test/.pomerium/routes");
  expect((await browser.submit(connections, { client: "a\0" })).status).toBe(400);
  const grants = await e2e.command("grants", "list");
  expect(grants).toContain("company/alice");
});
