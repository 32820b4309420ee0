import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runGrants } from "../../src/cli/grants.ts";
import { runServiceAccounts } from "../../src/cli/service-accounts.ts";
import { createEmbeddedTestDatabase } from "../support/embedded-database.ts";

let database: Awaited<ReturnType<typeof createEmbeddedTestDatabase>>;
let file: string;
const key = randomBytes(32).toString("base64url");
beforeAll(async () => {
  database = await createEmbeddedTestDatabase();
  file = join(database.dir, "routes.yaml");
  const route = (id: string, mcp: string) => `
  - {from: "https://${id}.test", id: ${id}, ${mcp}, policy: [{allow: {and: [{accept: true}]}}]}`;
  const server = (id: string, settings = "{upstream_auth: none}") =>
    route(id, `to: "http://${id}.internal:8080/mcp", mcp: {server: ${settings}}`);
  await writeFile(
    file,
    `issuer: https://auth.test
database: {dir: ${database.dir}}
sign_in: {providers: [{id: company, issuer: "https://idp.test", client_id: c, client_secret: a-long-secret-of-the-company}]}
routes:${server("notes", "{upstream_oauth2: {scopes: [a]}}")}${server("tickets")}${server("payroll")}${route(
      "everything",
      "mcp: {aggregate: {routes: [notes, tickets, payroll]}}",
    )}
`,
    { mode: 0o600 },
  );
});
afterAll(() => database?.close());

async function run(command: (options: Parameters<typeof runServiceAccounts>[1]) => Promise<number>) {
  let [out, err] = ["", ""];
  const code = await command({
    file,
    env: { ENCRYPTION_KEY: key },
    out: (text) => (out += text),
    err: (text) => (err += text),
    drained: async () => true,
  });
  return { code, out, err };
}
const create = (name: string, ...routeIds: string[]) =>
  run((options) =>
    runServiceAccounts({ kind: "create", name, routeIds, ownerId: "company/ann", lifetime: 3600 }, options),
  );

describe("a service account for an aggregated route", () => {
  it("may use all members that the route has now, and asks its owner for those that need a person", async () => {
    const created = await create("all", "everything");
    expect(created).toMatchObject({ code: 0, out: expect.stringMatching(/^\S+\n$/) });
    expect(created.err).toContain("that it may use: notes, tickets, payroll\n");
    expect(created.err).toContain("notes: calls are denied (403) until company/ann allows them");
  });

  it("may use only those that the operator names as well", async () => {
    const { err } = await create("some", "everything", "tickets");
    expect(err).toContain("that it may use: tickets\n");
  });

  it("is listed with its members", async () => {
    const { out } = await run((options) => runGrants("list", { ...options, which: {} }));
    expect(out).toMatch(/MEMBERS\n/);
    expect(out).toMatch(/service-account\/all .* notes,payroll,tickets\n/);
    expect(out).toMatch(/service-account\/some .* tickets\n/);
  });
});
