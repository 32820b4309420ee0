import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PGlite } from "@electric-sql/pglite";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { withStore } from "../../src/cli/command.ts";
import { runEndAccess } from "../../src/cli/end-access.ts";
import { runGrants } from "../../src/cli/grants.ts";
import { runServiceAccounts } from "../../src/cli/service-accounts.ts";
import type { Store } from "../../src/store/store.ts";
import { inSeconds, signIn } from "../store/samples.ts";
import { createEmbeddedTestDatabase } from "../support/embedded-database.ts";

const key = randomBytes(32).toString("base64url");
/** Clears the screen, in 7 bits and in 8, reorders the line, ends it, and hides a tag. */
const hostile = "\x1b[2JEvil\u009b2J \u202eapp\r\nroot\u{e0041}";

let database: Awaited<ReturnType<typeof createEmbeddedTestDatabase>>;
let file: string;
beforeAll(async () => {
  database = await createEmbeddedTestDatabase();
  file = join(database.dir, "routes.yaml");
  await writeFile(
    file,
    `issuer: https://auth.test
database: {dir: ${database.dir}}
sign_in: {providers: [{id: company, issuer: "https://idp.test", client_id: c, client_secret: a-long-secret-of-the-company}]}
authorization_server: {clients: [{client_id: known, client_name: Desk app, redirect_uris: ["https://desk.test/cb"]}]}
routes: [{from: "https://a.test", to: "http://a.internal/mcp", mcp: {server: {upstream_auth: none}}, policy: [{allow: {and: [{accept: true}]}}]}]
`,
    { mode: 0o600 },
  );
  await run((options) =>
    withStore(options, async ({ store: { authorizationServerRecords: records } }) => {
      const client = { id: "registered", payload: { client_id: "registered", client_name: hostile } };
      await records.upsert({ model: "Client", ...client });
      const grants: [user: string, clientId: string, more: Record<string, unknown>][] = [
        ["company/a", "https://app.test/client.json", { clientName: "Documented app" }],
        ["company/b", "known", { clientName: "a name of before" }],
        ["company/c", "registered", {}],
        ["company/d", "hostile", { clientName: hostile.repeat(100) }],
        ["company/e", "nameless", { clientName: null }],
        ["company/\u009b2Jf", "https://app.test/\u202e.json", {}],
      ];
      for (const [accountId, clientId, more] of grants)
        await records.upsert({ model: "Grant", id: accountId, payload: { accountId, clientId, ...more } });
      return 0;
    }),
  );
});
afterAll(() => database?.close());

async function run(command: (options: Parameters<typeof runGrants>[1]) => Promise<number>) {
  let [out, err] = ["", ""];
  const code = await command({
    ...{ file, env: { ENCRYPTION_KEY: key }, which: {} },
    out: (text) => (out += text),
    err: (text) => (err += text),
    drained: async () => true,
  });
  expect({ code, err }).toEqual({ code: 0, err: "" });
  return out;
}

describe("a list of grants", () => {
  it("has the names of clients: configured, as allowed, or as registered", async () => {
    const out = await run((options) => runGrants("list", { ...options, json: true }));
    const listed = out
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line))
      .map(({ user_id, client_name }) => [user_id, client_name]);
    expect(Object.fromEntries(listed)).toEqual({
      "company/a": "Documented app",
      "company/b": "Desk app",
      "company/c": "[2JEvil2J app root",
      "company/d": expect.stringMatching(/^\[2JEvil2J app root\[2JEvil/),
      "company/e": undefined,
      "company/\u009b2Jf": undefined,
    });
    expect(Math.max(...listed.map(([, name]) => name?.length ?? 0))).toBe(200);
  });

  it.each([true, false])("prints nothing that controls a terminal (JSON: %s)", async (json) => {
    const out = await run((options) => runGrants("list", { ...options, json }));
    expect(out).toContain("Evil");
    expect(out.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
    expect(out.trim().split("\n")).toHaveLength(json ? 6 : 7);
  });

  it("prints nothing that controls a terminal when it revokes", async () => {
    const out = await run((options) =>
      runGrants("revoke", { ...options, which: { clientId: "https://app.test/\u202e.json" } }),
    );
    expect(out).toContain("(https://app.test/?.json)");
    expect(out.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}]/u);
  });
});

describe("revoking all grants of a user", () => {
  it("ends the sign-in, the browser sessions and the grants in one step, with the reason and cli as actor", async () => {
    const userId = "company/leaving";
    const inStore = (work: (store: Store) => Promise<unknown>) =>
      run((options) =>
        withStore(options, async ({ store }) => {
          await work(store);
          return 0;
        }),
      );
    await inStore(async ({ signInSessions, browserSessions, authorizationServerRecords: records }) => {
      await signInSessions.put(signIn(userId));
      const session = { id: "of leaving", host: "auth.test", userId, createdAt: new Date() };
      await browserSessions.create({ ...session, expiresAt: inSeconds(3_600) });
      for (const id of ["first", "second"])
        await records.upsert({ model: "Grant", id, payload: { accountId: userId, clientId: "known" } });
    });
    const out = await run((options) =>
      runGrants("revoke", { ...options, which: { userId }, reason: "ticket 18" }),
    );
    expect(out.split("\n").toSorted()).toEqual([
      "",
      `revoked first of ${userId} (known)`,
      `revoked second of ${userId} (known)`,
      `signed out ${userId}`,
    ]);
    await inStore(async (store) => {
      expect(await store.signInSessions.find(userId)).toBeUndefined();
      expect(await store.browserSessions.find("of leaving")).toBeUndefined();
      const events = await store.auditEvents({ limit: 100, userId });
      const told = { userId, actor: "cli", reason: "ticket 18" };
      expect(events.toSorted((a, b) => `${a.grantId}`.localeCompare(`${b.grantId}`))).toEqual([
        expect.objectContaining({ action: "grant.revoked", grantId: "first", clientId: "known", ...told }),
        expect.objectContaining({ action: "grant.revoked", grantId: "second", clientId: "known", ...told }),
        expect.objectContaining({ action: "person.signed_out", ...told }),
      ]);
    });
  });
});

describe("a service account whose grant cannot be decrypted", () => {
  it("is listed and ended like the others", async () => {
    await run((options) =>
      withStore(options, async ({ store: { authorizationServerRecords: records } }) => {
        const payload = { accountId: "service-account/ci", clientId: "service-account" };
        await records.upsert({ model: "Grant", id: "account", payload, expiresAt: inSeconds(3_600) });
        return 0;
      }),
    );
    const sql = await PGlite.create({ dataDir: join(database.dir, "database") });
    await sql.query("update authorization_server_record set sealed = 'damaged' where grant_id = 'account'");
    await sql.close();
    const listed = await run((options) => runServiceAccounts({ kind: "list" }, options));
    expect(listed).toMatch(/^ci .*20\d\d-/m);
    const ended = await run((options) => runEndAccess({ ...options, reason: "test" }));
    expect(ended).toContain("ended service account ci: create it again");
  });
});
