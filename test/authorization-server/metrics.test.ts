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

test("the duration of a flow is that from its first step to the client's token, whichever replica finishes it", async () => {
  const { authorizationServerRecords: records } = stack.store;
  const flows = (name: string) => scraped(stack.metrics, `authorization_duration_seconds_${name}`);
  const before = await flows("sum");
  stack.connections.clear();
  const browser = stack.browser();
  const app = await registeredApp(stack);
  const { url, verifier } = app.request();
  const consent = await throughCompany(stack, browser, await browser.open(url), "alice");
  // As if the user had begun 200 s ago, on another replica: only what is stored says so.
  const uid = consent.url.pathname.split("/").at(-1) ?? "";
  const interaction = await records.find("Interaction", uid);
  if (!interaction) throw new Error(`no interaction ${uid}`);
  const { lastSubmission, ...payload } = interaction.payload;
  const begunAt = Math.floor(Date.now() / 1000) - 200;
  const earlier = { ...(lastSubmission as object), begunAt };
  await records.upsert({ ...interaction, payload: { ...payload, lastSubmission: earlier } });
  const end = await browser.submit(consent, {}, "decision=allow");
  const other = await stack.otherServer();
  const answer = await other.fetch("https://auth.test/oauth/token", {
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body: new URLSearchParams({
      ...{ grant_type: "authorization_code", code: end.url.searchParams.get("code") ?? "" },
      ...{ code_verifier: verifier, redirect_uri: app.redirectUri, client_id: app.clientId },
    }).toString(),
  });
  expect(answer.status).toBe(200);
  const granted = 'kind="client",outcome="granted"';
  const took = (await scraped(other.metrics, "authorization_duration_seconds_sum"))[granted];
  expect(took).toBeGreaterThanOrEqual(200);
  expect(took).toBeLessThan(230);
  expect((await scraped(other.metrics, "authorization_duration_seconds_count"))[granted]).toBe(1);
  // Ended by the user, and by the upstream, in the test above.
  expect(await flows("count")).toEqual({ 'kind="client",outcome="denied"': 2 });
  expect(await flows("sum")).toEqual(before);
  await other.close();
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
