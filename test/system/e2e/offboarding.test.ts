import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { programFile } from "../../../dev/demo/sidecar.ts";
import { type E2e, startE2e } from "../../support/e2e.ts";
import { createTestDatabase } from "../../support/postgres.ts";

type Database = Awaited<ReturnType<typeof createTestDatabase>>;

describe("offboarding a user as in docs/security.md", () => {
  let database: Database;
  let stack: E2e;
  const env = () => ({ DATABASE_URL: database.url });
  beforeAll(async () => {
    database = await createTestDatabase();
    stack = await startE2e({ env: env() });
  });
  afterAll(async () => {
    await stack?.close();
    await database?.close();
  });

  async function command(...words: string[]): Promise<string> {
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [programFile, ...words, "--config", stack.configFile],
      { env: { ...process.env, ...env() } },
    );
    return stdout;
  }

  it("ends access immediately, although the browser was signed in and would have allowed everything", async () => {
    const alice = await stack.client("alice");
    const bob = await stack.client("bob");
    const whoami = (client: typeof alice) =>
      client.run((mcp) => mcp.callTool({ name: "whoami", arguments: {} }));
    await whoami(alice);
    await whoami(bob);

    stack.openid.dismiss("alice");
    expect(await command("grants", "revoke", "--user", "company/alice")).toMatch(
      /^signed out company\/alice\nrevoked \S+ of company\/alice/,
    );
    expect(await command("connections", "revoke", "--user", "company/alice")).toBe(
      "revoked company/alice -> everything\n",
    );
    // The next sign-in ends at the provider, which no longer has the user.
    await expect(whoami(alice)).rejects.toThrow(`the flow ended at ${stack.openid.issuer}/`);
    const connections = await stack.browser("alice").open("https://auth.test/.pomerium/routes");
    expect(connections.url.origin).toBe(stack.openid.issuer);
    expect(await command("grants", "list")).not.toContain("company/alice");
    expect(await command("connections", "list")).not.toContain("company/alice");
    expect(await command("audit", "export", "--until", "2100-01-01T00:00:00Z")).toMatch(
      /"person.signed_out","user_id":"company\/alice".*"revoked by an operator"/,
    );

    expect(JSON.stringify(await whoami(bob))).toContain("bobby");
    await expect(command("grants", "revoke", "--user", "company/alice")).rejects.toMatchObject({ code: 1 });
  });
});
