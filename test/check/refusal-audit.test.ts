import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Checked } from "../../src/check/checked.ts";
import { createRefusalAudit } from "../../src/check/create-refusal-audit.ts";
import type { Store } from "../../src/store/store.ts";
import { type Backend, backends, logger } from "../store/backends.ts";

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

describe("F7.3 refusals in the audit trail", () => {
  it("are written once a minute per caller and reason, and made-up tokens not at all", async () => {
    const pending: Promise<void>[] = [];
    const audit: Store["audit"] = (event) => {
      const written = store.audit(event);
      pending.push(written);
      return written;
    };
    const tell = createRefusalAudit({ store: { audit }, logger });
    for (let time = 0; time < 3; time += 1) {
      tell(forbidden, "r1");
      tell({ ...forbidden, userId: "company/bob" }, "r2");
      tell(challenged("revoked"), "r3");
      for (const reason of ["bad_signature", "no_token", "unknown_issuer"]) tell(challenged(reason), "r4");
    }
    await Promise.all(pending);
    const events = await store.auditEvents({ limit: 10 });
    expect(events.map(({ action, userId, reason }) => [action, userId, reason])).toEqual(
      expect.arrayContaining([
        ["policy.refused", "company/alice", "not_allowed"],
        ["policy.refused", "company/bob", "not_allowed"],
        ["external_token.refused", undefined, "revoked"],
      ]),
    );
    expect(events).toHaveLength(3);
    expect(events[0]?.detail).toEqual({ rule: "routes[0].policy[0]" });
  });
});
