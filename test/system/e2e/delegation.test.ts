import { decodeJwt } from "jose";
import { parse } from "node-html-parser";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type E2e, startE2e, type User } from "../../support/e2e.ts";
import { createTestDatabase } from "../../support/postgres.ts";
import { throughEnvoy } from "../../support/through-envoy.ts";

const initialize = JSON.stringify({
  jsonrpc: "2.0",
  id: 1,
  method: "initialize",
  params: { protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: "ci", version: "1" } },
});
const portal = "https://auth.test/.pomerium/routes";

/** An operator creates a service account, its owner allows and stops it in the portal, and it calls through Envoy. */
describe("a service account with its owner's connection", () => {
  let database: Awaited<ReturnType<typeof createTestDatabase>>;
  let stack: E2e;
  let owner: string;
  let token: string;

  beforeAll(async () => {
    database = await createTestDatabase();
    stack = await startE2e({
      env: { DATABASE_URL: database.url },
      config: (config) => ({
        ...config,
        policy: [{ allow: { and: [{ accept: true }] } }, { deny: { and: [{ groups: "barred" }] } }],
      }),
    });
    owner = decodeJwt(await stack.externalToken("alice", stack.urls.open)).sub ?? "";
    await stack.externalToken("bob");
    token = (
      await stack.command("service-accounts", "create", "ci", ...["--route", "everything"], "--owner", owner)
    ).trim();
  });
  afterAll(async () => {
    await stack?.close();
    await database?.close();
  });

  const call = (who = token) =>
    throughEnvoy(stack, {
      url: stack.urls.everything,
      method: "POST",
      headers: {
        "content-type": "application/json",
        accept: "application/json, text/event-stream",
        authorization: `Bearer ${who}`,
      },
      body: initialize,
    });
  const tokenSeen = () => {
    const headers = stack.everything.requests.at(-1)?.headers ?? [];
    return headers.find(([name]) => name.toLowerCase() === "authorization")?.[1];
  };
  const becomes = (status: number) =>
    expect.poll(async () => (await call()).status, { interval: 20, timeout: 60_000 }).toBe(status);
  async function refused(reason: RegExp): Promise<void> {
    const answer = await call();
    expect([answer.status, answer.header("www-authenticate")]).toEqual([403, undefined]);
    expect(answer.body).toMatch(reason);
  }
  /** Presses the button of the portal whose form goes to `action` and has these fields. */
  async function press(user: User, action: string, values: Record<string, string>): Promise<string> {
    const opened = await stack.browser(user).open(portal);
    const root = parse(opened.html);
    const form = root.querySelectorAll("form").find((one) => {
      const fits = Object.entries(values).every(
        ([name, value]) => one.querySelector(`[name="${name}"]`)?.getAttribute("value") === value,
      );
      return fits && one.getAttribute("action")?.endsWith(`/${action}`);
    });
    if (!form) throw new Error(`no form to ${action}: ${root.querySelector("main")?.text}`);
    const html = form.toString();
    return (await stack.browser(user).submit({ ...opened, html }, {})).html;
  }
  /** The portal's section on service accounts. */
  const machine = async (user: User) =>
    parse((await stack.browser(user).open(portal)).html)
      .querySelector("[aria-labelledby=service-accounts]")
      ?.text.replace(/\s+/g, " ");
  const listed = async () => (await stack.command("service-accounts", "list")).split("\n")[1] ?? "";

  it("is denied, not challenged, until the owner allows it; then it calls the upstream as the owner", async () => {
    await refused(/its owner has delegated no connection/);
    expect(await listed()).toMatch(new RegExp(`^ci +everything +${owner} +- `));
    // It can be allowed only if there is a connection.
    expect(await machine("alice")).toMatch(
      /ci Not allowed Asks to use your connection to Everything\. Connect it first/,
    );
    expect(await machine("bob")).toBeUndefined();

    await stack.externalToken("alice");
    await refused(/its owner has delegated no connection/);
    expect(await press("alice", "delegate", { route: "everything" })).toContain(
      "may now use your connection",
    );
    await becomes(200);
    expect(await machine("alice")).toMatch(/ci Allowed Uses your connection to Everything/);
    expect(await listed()).toMatch(new RegExp(`^ci +everything +${owner} +everything `));

    const seen = tokenSeen();
    await call(await stack.externalToken("alice"));
    expect(tokenSeen()).toBe(seen);
    await call(await stack.externalToken("bob"));
    expect(tokenSeen()).not.toBe(seen);
  });

  it("cannot use or list connections of an owner while policy denies the owner access", async () => {
    const alice = stack.openid.accounts.find(({ login }) => login === "alice");
    const groups = alice?.groups ?? [];
    const listed = async () => {
      const headers = { authorization: `Bearer ${token}` };
      const response = await stack.fetch("https://auth.test/.pomerium/mcp/routes", { headers });
      return Object(await response.json()).servers.length;
    };
    const signsInWith = async (now: readonly string[]) => {
      if (alice) alice.groups = now;
      await stack.browser("alice").jar.removeAllCookies();
      // Returns to a page without a form that `submit` would press.
      const signIn = await stack
        .browser("alice")
        .open("https://auth.test/.pomerium/sign_in?return_to=/.pomerium/mcp/routes");
      expect((await stack.browser("alice").agree(signIn, stack.signIn("alice"))).status).toBe(200);
    };
    expect(await listed()).toBe(1);
    await signsInWith(["barred"]);
    await becomes(403);
    await refused(/its owner has delegated no connection/);
    expect(await listed()).toBe(0);
    await signsInWith(groups);
    await becomes(200);
    expect(await listed()).toBe(1);
  });

  it("only its owner can delegate connections to it", async () => {
    const alices = await stack.browser("alice").open(portal);
    const grantId = /name="account" value="([^"]+)"/.exec(alices.html)?.[1] ?? "";
    await press("alice", "undelegate", { account: grantId });
    await becomes(403);
    const bobs = await stack.browser("bob").open(portal);
    const csrf = /name="csrf" value="([^"]+)"/.exec(bobs.html)?.[1] ?? "";
    const form = (action: string, value: string) => ({
      ...bobs,
      html: `<form method="post" action="/.pomerium/routes/${action}"><input name="csrf" value="${value}">
        <input name="account" value="${grantId}"><input name="route" value="everything"></form>`,
    });
    expect((await stack.browser("bob").submit(form("delegate", csrf), {})).html).not.toContain("may now use");
    expect((await stack.browser("alice").submit(form("delegate", csrf), {})).status).toBe(403);
    await refused(/its owner has delegated no connection/);
    await press("alice", "delegate", { account: grantId });
    await becomes(200);
  });

  it("is denied, not challenged, when the upstream has revoked the connection; the owner connects again", async () => {
    await stack.upstream.revokeGrants("ally");
    // First because of the upstream's 401, then because of the stored state.
    for (let calls = 0; calls < 3; calls++) await refused(/owner .*must (?:re)?connect/);
    await stack.externalToken("alice");
    await becomes(200);
  });

  it("loses access when the owner disconnects, even after the next consent; the audit trail has every step", async () => {
    await press("alice", "disconnect", { route: "everything" });
    await becomes(403);
    await stack.externalToken("alice");
    await refused(/its owner has delegated no connection/);
    const trail = (await stack.command("audit", "export", "--user", owner, "--until", "2100-01-01T00:00:00Z"))
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    const ofDelegation = trail.filter(({ action }) => action.startsWith("delegation."));
    expect(ofDelegation.map(({ action, reason }) => [action, reason])).toEqual([
      ["delegation.created", undefined],
      ["delegation.ended", "ended by the owner"],
      ["delegation.created", undefined],
      ["delegation.ended", "disconnected"],
    ]);
    expect(ofDelegation[0]).toMatchObject({
      route_id: "everything",
      detail: { account: "service-account/ci" },
    });
  });

  it("ends with the account, and an owner must be a user who can sign in", async () => {
    await press("alice", "delegate", { route: "everything" });
    await becomes(200);
    await stack.command("service-accounts", "revoke", "ci");
    await becomes(401);
    expect(await machine("alice")).toBeUndefined();
    await expect(
      stack.command("service-accounts", "create", "x", "--route", "everything", "--owner", "elsewhere/alice"),
    ).rejects.toMatchObject({ code: 1, stderr: expect.stringContaining("PROVIDER one of: company") });
  });
});
