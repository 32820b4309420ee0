import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createDenialAudit } from "../../src/ext-authz/check-service.ts";
import type { CheckDeps, Checked } from "../../src/ext-authz/check-types.ts";
import type { Store } from "../../src/store/store.ts";
import { type Backend, backends, logger } from "../store/backends.ts";
import { startChecks, strangersKey, type TokenOptions } from "./start-checks.ts";

let backend: Backend;
let store: Store;
beforeAll(async () => {
  backend = await backends.postgres();
  store = await backend.open();
});
afterAll(async () => {
  await store?.close();
  await backend?.close();
});

const forbidden: Checked = {
  decision: { kind: "deny", status: 403, code: "not_allowed", message: "no", headers: [] },
  reason: "not_allowed",
  userId: "company/alice",
  rule: "routes[0].policy[0]",
};
const challenged = (reason: string): Checked => ({
  decision: { kind: "challenge", wwwAuthenticate: "Bearer", body: "", headers: [] },
  reason,
});

const yaml = `
issuer: https://auth.test
sign_in: {providers: [{issuer: https://idp.test, client_id: x}]}
policy: {allow: {or: [{accept: true}]}}
routes:
  - {id: open, name: Open, from: https://mcp.test, to: http://127.0.0.1:1, mcp: {server: {upstream_auth: none}}}
  - {id: staff, name: Staff, from: https://staff.test, to: http://127.0.0.1:2, mcp: {server: {upstream_auth: none}}, policy: {allow: {or: [{email: {is: bob@example.com}}]}}}
`;

describe("denials in the audit trail", () => {
  it("contain the token's user, client and grant, so that one does not hide another", async () => {
    let record: CheckDeps["onDenial"];
    const checks = await startChecks(yaml, { onDenial: (...refusal) => record?.(...refusal) });
    record = createDenialAudit(checks);
    const show = (token: string, url = "https://mcp.test/") =>
      checks.ask({ url, headers: { authorization: `Bearer ${token}` } });
    const seconds = Math.floor(Date.now() / 1000);
    const of = (client_id: string, claims: object, grantId = "grant", more: TokenOptions = {}) =>
      checks.token({ client_id, ...claims }, { grantId, ...more });

    const looping = await of("looping", { exp: seconds - 3600 });
    for (let time = 0; time < 3; time++) await show(looping);
    await show(await of("looping", { exp: seconds - 3600 }, "its next grant"));
    await show(await of("quiet", { exp: seconds - 3600 }));
    await show(await of("quiet", { exp: seconds - 3600, sub: "idp/bob" }));
    const cached = await of("cached", {}, "grant-2");
    await show(cached);
    await show(cached, "https://staff.test/");
    checks.clock.offset = 3_700_000;
    await show(cached);
    checks.clock.offset = 0;
    await show(await of("quiet", {}, "gone", { noGrant: true }));
    await show(await of("barred", { aud: "https://staff.test" }), "https://staff.test/");
    await show(await of("forger", { exp: seconds - 3600 }, "grant", { key: await strangersKey() }));
    await show(await of("forger", {}, "grant", { header: { typ: "JWT" } }));

    const events = () => checks.store.auditEvents({ limit: 100 });
    const alice = "idp/alice";
    const expected = [
      ["external_token.rejected", "expired", alice, "looping", "grant", "open"],
      ["external_token.rejected", "expired", alice, "quiet", "grant", "open"],
      ["external_token.rejected", "expired", "idp/bob", "quiet", "grant", "open"],
      ["external_token.rejected", "wrong_audience", alice, "cached", "grant-2", "staff"],
      ["external_token.rejected", "expired", alice, "cached", "grant-2", "open"],
      ["external_token.rejected", "revoked", alice, "quiet", "gone", "open"],
      ["policy.denied", "not_allowed", alice, "barred", "grant", "staff"],
    ];
    await expect.poll(async () => (await events()).length).toBe(expected.length);
    const written = (await events()).map((one) => [
      ...[one.action, one.reason, one.userId, one.clientId, one.grantId, one.routeId],
    ]);
    expect(written.map(String).toSorted()).toEqual(expected.map(String).toSorted());
    await checks.close();
  });

  it("are written once a minute per caller and reason, and not at all for forged tokens", async () => {
    const pending: Promise<void>[] = [];
    const audit: Store["audit"] = (event) => {
      const written = store.audit(event);
      pending.push(written);
      return written;
    };
    const record = createDenialAudit({ store: { audit }, logger });
    for (let time = 0; time < 3; time += 1) {
      record(forbidden, "r1");
      record({ ...forbidden, userId: "company/bob" }, "r2");
      record(challenged("revoked"), "r3");
      for (const reason of ["bad_signature", "no_token", "unknown_issuer", "upstream_token_expired"])
        record(challenged(reason), "r4");
    }
    await Promise.all(pending);
    const events = await store.auditEvents({ limit: 10 });
    expect(events.map(({ action, userId, reason }) => [action, userId, reason])).toEqual(
      expect.arrayContaining([
        ["policy.denied", "company/alice", "not_allowed"],
        ["policy.denied", "company/bob", "not_allowed"],
        ["external_token.rejected", undefined, "revoked"],
      ]),
    );
    expect(events).toHaveLength(3);
    const denied = events.find(({ userId }) => userId === forbidden.userId);
    expect(denied?.detail).toEqual({ rule: "routes[0].policy[0]" });
  });
});
