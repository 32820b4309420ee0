import { afterAll, beforeAll, expect, test } from "vitest";
import { scraped } from "../support/scraped.ts";
import { registeredApp, throughCompany } from "./mcp-app.ts";
import { type AuthorizationServerStack, startAuthorizationServer } from "./start-authorization-server.ts";

let stack: AuthorizationServerStack;
beforeAll(async () => {
  stack = await startAuthorizationServer();
});
afterAll(() => stack.close());

test("the steps of a flow are counted by outcome, with their duration", async () => {
  const { authorizationServerRecords: records } = stack.store;
  const browser = stack.browser();
  /** A client's authorization, up to our consent page. */
  const asked = async () => {
    stack.connections.set("company/alice one", "missing");
    const page = await browser.open((await registeredApp(stack)).request().url);
    return throughCompany(stack, browser, page, "alice");
  };

  const first = await asked();
  // As if the user had waited for 100 s.
  const uid = first.url.pathname.split("/").at(-1) ?? "";
  const interaction = await records.find("Interaction", uid);
  if (!interaction) throw new Error(`no interaction ${uid}`);
  const iat = Number(interaction.payload.iat) - 100;
  await records.upsert({ ...interaction, payload: { ...interaction.payload, iat } });
  await browser.submit(first, {}, "decision=allow");
  await browser.submit(await asked(), {}, "decision=deny");
  stack.connectOutcome = { error: "access_denied" };
  await browser.submit(await asked(), {}, "decision=allow");

  expect(await scraped(stack.metrics, "consents_total")).toEqual({
    'kind="client",outcome="started"': 3,
    'kind="client",outcome="granted"': 2,
    'kind="client",outcome="denied"': 1,
  });
  expect(await scraped(stack.metrics, "authorization_step_duration_seconds_count")).toEqual({
    'step="login",outcome="ok"': 1,
    'step="consent",outcome="ok"': 2,
    'step="consent",outcome="access_denied"': 1,
    'step="upstream",outcome="ok"': 1,
    'step="upstream",outcome="access_denied"': 1,
  });
  const { 'step="consent",outcome="ok"': took } = await scraped(
    stack.metrics,
    "authorization_step_duration_seconds_sum",
  );
  expect(took).toBeGreaterThanOrEqual(100);
  expect(took).toBeLessThan(130);
});

test("an unexpected error is counted and not revealed", async () => {
  const app = await registeredApp(stack);
  const { authorizationServerRecords: records } = stack.store;
  const { find } = records;
  records.find = () => Promise.reject(new Error("boom"));
  const response = await app.refresh("any");
  records.find = find;
  expect([response.status, await response.text()]).toEqual([500, expect.not.stringContaining("boom")]);
  expect(await scraped(stack.metrics, "errors_total")).toEqual({
    'component="authorization-server",code="server_error"': 1,
  });
});
