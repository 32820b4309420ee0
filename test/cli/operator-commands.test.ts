import { decodeJwt } from "jose";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { observe } from "../system/faults/load.ts";
import { startWorld, type World } from "../system/faults/world.ts";

/** The commands as processes, while a gateway serves through Envoy. */
describe("operator commands", () => {
  let world: World;
  beforeAll(async () => {
    world = await startWorld({ replicas: 1, users: 3, routes: 2 });
  });
  afterAll(() => world?.close());

  const callOf = (user: number, route: number) => {
    const call = world.calls.find(({ owner }) => owner === `${world.users[user]} ${world.routes[route]}`);
    if (!call) throw new Error("no such call");
    return call;
  };
  const answer = async (user: number, route: number) =>
    (await observe(world.fetch, callOf(user, route))).what;
  const ask = (url: string, token: string) =>
    world.fetch(url, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: '{"jsonrpc":"2.0","id":1,"method":"tools/list"}',
    });

  it("connections: lists them without tokens; revoking deletes them and revokes their tokens at the upstream", async () => {
    const listed = await world.command("connections", "list", "--user", "company/user0");
    expect(listed.trim().split("\n")).toHaveLength(3);
    expect(listed).toMatch(/company\/user0 +r1 +http:/);
    expect(listed).not.toMatch(/at_|rt_/);

    expect(await answer(0, 0)).toBe("200");
    const revoke = (route: string, ...more: string[]) =>
      world.command("connections", "revoke", "--user", "company/user0", "--route", route, ...more);
    expect(await revoke("r0", "--reason", "ticket 17")).toBe("revoked company/user0 -> r0\n");
    expect(world.server.isRevoked("company/user0 r0")).toBe(true);
    await expect.poll(() => answer(0, 0), { interval: 50 }).toBe("401 invalid_token");
    expect(await answer(0, 1)).toBe("200");
    await expect(world.command("connections", "revoke", "--user", "nobody")).rejects.toMatchObject({
      code: 1,
      stderr: "no such connection; nothing was revoked\n",
    });
    await expect(world.command("connections", "revoke")).rejects.toMatchObject({
      stderr: expect.stringContaining("specify"),
    });
  });

  it("connections revoke: a token that the authorization server did not revoke is reported, with the reason", async () => {
    const user = "company/user0";
    await expect
      .poll(() => world.command("connections", "list", "--user", user), { interval: 50 })
      .toContain("r1");
    world.server.behave({ kind: "status", status: 500 });
    try {
      expect(await world.command("connections", "revoke", "--user", user, "--route", "r1")).toBe(
        `deleted ${user} -> r1; not revoked at ${world.server.url} (server_error): revoke it there\n`,
      );
    } finally {
      world.server.behave({ kind: "well" });
    }
    expect(world.server.isRevoked(`${user} r1`)).toBe(false);
    const events = await world.query(
      `select action, route_id, reason from audit_event where action in ('upstream_token.disconnected', 'upstream_token.revoked') and user_id = '${user}' order by id`,
    );
    expect(events).toEqual([
      { action: "upstream_token.disconnected", route_id: "r0", reason: "ticket 17" },
      { action: "upstream_token.revoked", route_id: "r0", reason: null },
      { action: "upstream_token.disconnected", route_id: "r1", reason: "revoked by an operator" },
    ]);
  });

  it("lists: as JSON, a document per line; in pages without gaps; ending quietly when the reader goes away", async () => {
    const documents = async (...args: string[]) =>
      (await world.command(...args, "--json"))
        .split("\n")
        .filter((line) => line !== "")
        .map((line): Record<string, unknown> => JSON.parse(line));
    const time = expect.stringMatching(/^20\d\d-.*Z$/);
    const [mine] = await documents("connections", "list", "--user", "company/user1", "--route", "r1");
    expect(mine).toEqual({
      ...{ user_id: "company/user1", route_id: "r1", upstream: expect.stringMatching(/^http/) },
      ...{ connected_at: time, refreshed_at: time, expires_at: time, refreshable: true },
      cursor: expect.any(String),
    });
    const [grant] = await documents("grants", "list", "--user", "company/user1");
    expect(grant).toEqual({
      ...{
        grant_id: world.grants.get("company/user1"),
        user_id: "company/user1",
        client_id: expect.any(String),
      },
      ...{ route_ids: [], granted_at: time, last_used_at: time, members: [], cursor: expect.any(String) },
    });
    expect(await documents("connections", "list", "--user", "nobody")).toEqual([]);

    await world.query(`
      insert into upstream_token (user_id, route_id, upstream, sealed, key_id, refreshable)
      select 'many/' || n, 'r0', 'https://upstream.example/mcp', 's', 'k', false from generate_series(1, 3000) n`);
    const all = await documents("connections", "list", "--route", "r0");
    const many = all.filter((one) => String(one.user_id).startsWith("many/"));
    expect([many.length, new Set(many.map((one) => one.user_id)).size]).toEqual([3000, 3000]);
    // A cursor continues after its row, within a page and across pages, in both orders, even if the row is gone.
    const cursors = async (...args: string[]) =>
      (await documents(...args)).map(({ cursor }) => String(cursor));
    const paged = async (limit: number, ...which: string[]) => {
      const rows: string[] = [];
      for (let after: string[] = []; ; ) {
        const page = await cursors("connections", "list", ...which, "--limit", String(limit), ...after);
        rows.push(...page);
        if (page.length < limit) return rows;
        after = ["--after", String(page.at(-1))];
      }
    };
    expect(await paged(1400, "--route", "r0")).toEqual(all.map(({ cursor }) => cursor));
    const everything = await documents("connections", "list");
    const inOrder = everything.map(({ cursor }) => String(cursor));
    expect(await paged(1400)).toEqual(inOrder);
    const gone = everything.findIndex((one) => one.user_id === "many/17");
    await world.query("delete from upstream_token where user_id = 'many/17'");
    expect(await cursors("connections", "list", "--after", String(inOrder[gone]))).toEqual(
      inOrder.slice(gone + 1),
    );
    const limited = await world.piped("cat", "connections", "list", "--limit", "2");
    expect(limited.output.trim().split("\n")).toHaveLength(3);
    expect(limited.ended).toContain(`there are more: continue with --after ${inOrder[1]}\n`);
    await expect(world.command("connections", "list", "--after", "nonsense")).rejects.toMatchObject({
      stderr: expect.stringContaining("Write the cursor of a listed row"),
    });
    await expect(world.command("grants", "list", "--limit", "0")).rejects.toMatchObject({ code: 1 });
    expect((await documents("grants", "list", "--limit", "1")).length).toBe(1);
    const [firstGrant = "", ...grants] = await cursors("grants", "list");
    expect(await cursors("grants", "list", "--after", firstGrant)).toEqual(grants);
    expect(await world.piped("head -n 1", "connections", "list")).toEqual({
      output: expect.stringMatching(/^USER +ROUTE .*\n$/),
      ended: "exit code 0\n",
    });
    // A command that changes something finishes all the same.
    const revoked = await world.piped("true", "connections", "revoke", "--user", "many/1");
    expect(revoked.ended).toBe("exit code 0\n");
    const [left] = await world.query("select count(*)::int from upstream_token where user_id like 'many/%'");
    expect(left).toEqual({ count: 2998 });
    await world.query("delete from upstream_token where user_id like 'many/%'");
  });

  it("grants: lists them; revoking one takes effect within a second", async () => {
    const grantId = world.grants.get("company/user1") ?? "";
    expect(await world.command("grants", "list", "--user", "company/user1")).toContain(grantId);
    expect(await answer(1, 0)).toBe("200");
    expect(await world.command("grants", "revoke", grantId, "--reason", "ticket 18")).toContain(
      `revoked ${grantId} of company/user1`,
    );
    const [event] = await world.query("select reason from audit_event where action = 'grant.revoked'");
    expect(event).toEqual({ reason: "ticket 18" });
    await expect.poll(() => answer(1, 0), { interval: 50, timeout: 60_000 }).toBe("401 invalid_token");
    await expect(world.command("grants", "revoke", grantId)).rejects.toMatchObject({ code: 1 });
    expect(await world.command("grants", "revoke", "--user", "company/user1")).toBe(
      "signed out company/user1\n",
    );
    expect(await answer(2, 0)).toBe("200");
  });

  it("service accounts: a token per route, no challenges, listed, revoked within a second", async () => {
    const printed = await world.command(
      ...["service-accounts", "create", "nightly", "--route", "open", "--route", "r0"],
      ...["--expires-in", "30d"],
    );
    const tokens = new Map(
      printed
        .trim()
        .split("\n")
        .map((line) => line.split(" ") as [string, string]),
    );
    const open = callOf(0, 0).url.replace("/r0", "/open");
    const token = tokens.get("open") ?? "";
    expect((await ask(open, token)).status).toBe(200);

    // One route only, like every external token.
    expect((await ask(callOf(0, 1).url, token)).status).toBe(401);
    // It cannot consent: denied, not challenged.
    const refused = await ask(callOf(0, 0).url, tokens.get("r0") ?? "");
    expect(refused.status).toBe(403);
    expect(refused.headers.get("www-authenticate")).toBeNull();
    expect(await refused.text()).toContain("service account");

    await expect(
      world.command("service-accounts", "create", "nightly", "--route", "open"),
    ).rejects.toMatchObject({ stderr: expect.stringContaining("revoke it first") });
    await expect(world.command("service-accounts", "create", "x", "--route", "nope")).rejects.toMatchObject({
      stderr: expect.stringContaining("known routes: r0, r1, open"),
    });
    expect(await world.command("service-accounts", "list")).toMatch(/nightly +open,r0/);
    expect(JSON.parse(await world.command("service-accounts", "list", "--json"))).toMatchObject({
      name: "nightly",
      route_ids: ["open", "r0"],
    });

    expect(await world.command("service-accounts", "revoke", "nightly", "--reason", "ticket 19")).toContain(
      "revoked",
    );
    await expect
      .poll(async () => (await ask(open, token)).status, { interval: 50, timeout: 60_000 })
      .toBe(401);
    expect(await world.command("service-accounts", "list")).not.toContain("nightly");

    const events = await world.query(
      "select action, actor, user_id, client_id, grant_id, reason, detail from audit_event where action like 'service_account.%' order by id",
    );
    const { grant_id, exp } = decodeJwt(token);
    const whose = {
      actor: "cli",
      user_id: "service-account/nightly",
      client_id: "service-account",
      grant_id,
    };
    const expires = new Date((exp ?? 0) * 1000).toISOString();
    expect(events).toEqual([
      { action: "service_account.created", ...whose, reason: null, detail: { routes: "open r0", expires } },
      { action: "service_account.revoked", ...whose, reason: "ticket 19", detail: null },
    ]);
  });

  it("rotate-keys re-encrypts stored secrets, rotate-signing-key creates a key, and connections keep working", async () => {
    expect(await world.command("rotate-keys")).toMatch(
      /^0 rows re-encrypted with \S+, the first key of encryption\.keys\n$/,
    );
    const [before] = await world.query("select count(*)::int from signing_key where purpose = 'assertion'");
    expect(await world.command("rotate-signing-key", "assertion", "--activate-after", "1m")).toMatch(
      /^new assertion key \S+, signs in 60 s/,
    );
    const [after] = await world.query("select count(*)::int from signing_key where purpose = 'assertion'");
    expect(after?.count).toBe(Number(before?.count) + 1);
    expect(await answer(2, 1)).toBe("200");
  });

  it("former names still work and are not documented: rotate-keys --signing, audit", async () => {
    expect(await world.command("rotate-keys", "--signing", "assertion", "--publish", "1m")).toMatch(
      /^new assertion key \S+, signs in 60 s/,
    );
    expect(await world.command("rotate-keys", "--help")).not.toMatch(/--signing|--publish|--revoke-old/);
    const rotations = ["--action", "signing_key.rotated", "--until", "2100-01-01T00:00:00Z"];
    const exported = await world.command("audit", "export", ...rotations);
    expect(exported).toContain('"purpose":"assertion"');
    expect(await world.command("audit", ...rotations)).toBe(exported);
  });

  it("rotate-signing-key external_token keeps old tokens valid, --revoke-old revokes them", async () => {
    expect(await answer(2, 1)).toBe("200");
    await world.command("rotate-signing-key", "external_token", "--activate-after", "1s");
    expect(await answer(2, 1)).toBe("200");
    await world.command("rotate-signing-key", "external_token", "--revoke-old");
    await expect.poll(() => answer(2, 1), { interval: 50, timeout: 60_000 }).toBe("401 invalid_token");
  });

  it("end-access: after a restore from a backup, revoked access stays revoked; connections are kept", async () => {
    const user = "company/user2";
    const again = [
      "--route",
      "open",
      "--route",
      "r0",
      "--owner",
      "company/auth0|it's",
      "--expires-in",
      "90d",
    ];
    await world.command("service-accounts", "create", "restored", ...again);
    await world.query("create table backup as select * from authorization_server_record");
    const grantId = world.grants.get(user) ?? "";
    await world.command("grants", "revoke", grantId);
    await world.query(
      "insert into authorization_server_record select * from backup where model = 'Grant' on conflict do nothing",
    );
    // What a restore does: the grant is back, without a notification.
    expect(await world.command("grants", "list", "--user", user)).toContain(grantId);
    const connections = async () =>
      (await world.command("connections", "list")).split("\n").map((line) => line.split(/ +/).slice(0, 3));
    const connected = await connections();

    await expect(world.command("end-access")).rejects.toMatchObject({
      stderr: expect.stringContaining("--yes"),
    });
    const printed = await world.command("end-access", "--yes", "--reason", "restored from last night");
    expect(printed).toMatch(/^ended \d+ grants, /);
    // The remaining lifetime, rounded down.
    expect(printed).toContain(
      "ended service account restored: create it again\n  envoy-mcp-auth service-accounts create restored --route open --route r0 --owner 'company/auth0|it'\\''s' --expires-in 89d\n",
    );
    expect(printed).not.toMatch(/ey[\w-]+\./);
    expect(await world.command("grants", "list")).not.toContain(grantId);
    expect(await world.command("service-accounts", "list")).not.toContain("restored");
    await expect.poll(() => answer(2, 1), { interval: 50, timeout: 60_000 }).toBe("401 invalid_token");
    expect(await connections()).toEqual(connected);
    const [event] = await world.query("select * from audit_event where action = 'access.ended'");
    expect(event).toMatchObject({
      reason: "restored from last night",
      detail: { grants: expect.any(Number), browserSessions: expect.any(Number) },
    });
    // The same backup once more: its tokens are signed by a revoked key, and their user has not signed in.
    await world.query("insert into authorization_server_record select * from backup on conflict do nothing");
    expect(await answer(2, 1)).toBe("401 invalid_token");
  });

  it("every change by a command is recorded with the actor cli, and nothing else is", async () => {
    const actions = async (where: string) =>
      (await world.query(`select distinct action from audit_event where ${where} order by 1`)).map(
        ({ action }) => action,
      );
    expect(await actions("actor = 'cli'")).toEqual([
      ...["access.ended", "encryption_key.rotated", "grant.revoked", "person.signed_out"],
      ...["service_account.created", "service_account.revoked", "signing_key.rotated"],
      ...["upstream_token.disconnected", "upstream_token.revoked"],
    ]);
    expect(await actions("actor is distinct from 'cli'")).not.toContain("grant.revoked");
    const [exported = ""] = (
      await world.command("audit", "export", "--action", "access.ended", "--until", "2100-01-01T00:00:00Z")
    ).split("\n");
    expect(JSON.parse(exported)).toMatchObject({ actor: "cli", reason: "restored from last night" });
  });
});
