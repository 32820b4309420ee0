import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
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

  /** Runs the commands of the page for this user, as a shell does. */
  async function asDocumented(user: string): Promise<string> {
    const page = readFileSync(join(import.meta.dirname, "../../../docs/security.md"), "utf8");
    const [, script = ""] = /### A person leaves.*?```sh\n(.*?)```/s.exec(page) ?? [];
    const { stdout } = await promisify(execFile)(
      "bash",
      [...["-ec", `envoy-mcp-auth() { "$NODE" "$PROGRAM" "$@" --config "$FILE"; }\n${script}`]].map((part) =>
        part.replace("ID=company/00u1abcd", `ID=${user}`),
      ),
      {
        env: {
          ...process.env,
          ...env(),
          ...{ NODE: process.execPath, PROGRAM: programFile, FILE: stack.configFile },
        },
      },
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

    const account = ["service-accounts", "create", "--route", "open", "--owner"];
    const [created = ""] = await Promise.all([
      command(...account, "company/alice", "bot"),
      command(...account, "company/bob", "other"),
    ]);
    const ask = (token: string) =>
      stack
        .fetch(stack.urls.open, {
          method: "POST",
          headers: { authorization: `Bearer ${token.trim()}`, "content-type": "application/json" },
          body: '{"jsonrpc":"2.0","id":1,"method":"ping"}',
        })
        .then(({ status }) => status);
    expect(await ask(created)).not.toBe(401);

    stack.openid.dismiss("alice");
    const printed = await asDocumented("company/alice");
    expect(printed).toMatch(
      /^signed out company\/alice\nrevoked \S+ of company\/alice .*\nrevoked company\/alice -> everything\nrevoked service-account\/bot\n$/,
    );
    expect(await ask(created)).toBe(401);
    // The next sign-in ends at the provider, which no longer has the user.
    await expect(whoami(alice)).rejects.toThrow(`the flow ended at ${stack.openid.issuer}/`);
    const connections = await stack.browser("alice").open("https://auth.test/.pomerium/routes");
    expect(connections.url.origin).toBe(stack.openid.issuer);
    const [grants = "", held = "", accounts = "", trail = ""] = await Promise.all([
      command("grants", "list"),
      command("connections", "list"),
      command("service-accounts", "list"),
      command("audit", "export", "--user", "company/alice", "--until", "2100-01-01T00:00:00Z"),
    ]);
    expect(grants + held).not.toContain("company/alice");
    expect(accounts).toMatch(/other +open +company\/bob/);
    expect(accounts).not.toContain("bot");
    const proof = ["person.signed_out", "grant.revoked", "upstream_token.disconnected"];
    for (const action of proof) expect(trail).toMatch(new RegExp(`"${action}".*"reason":"ticket 4711"`));
    expect(trail).toContain('"upstream_token.revoked"');

    expect(JSON.stringify(await whoami(bob))).toContain("bobby");
    await expect(command("grants", "revoke", "--user", "company/alice")).rejects.toMatchObject({ code: 1 });
    // Ten processes, one after another.
  }, 300_000);
});
