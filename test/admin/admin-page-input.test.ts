import { randomBytes } from "node:crypto";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { connect } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runEndAccess } from "../../src/cli/end-access.ts";
import { runServiceAccounts } from "../../src/cli/service-accounts.ts";
import { audit, upstreamToken } from "../store/samples.ts";
import { connected } from "../support/database-pool.ts";
import { scriptedUpstream } from "../upstream-oauth/scripted-upstream.ts";
import { type AdminStack, inStore, shownCode } from "./page-people.ts";
import { startAdmin } from "./start-admin.ts";

const token = randomBytes(32).toString("base64url");
const hostile = `"'></textarea></title><script>alert(1)</script>`;

let stack: AdminStack;
let url: string;
let admin: string;
let viewer: string;

beforeAll(async () => {
  stack = await startAdmin({
    settings: {
      admin_api: {
        admin_tokens: [token],
        admins: { allow: { or: [{ groups: { has: "platform" } }] } },
        viewers: { allow: { or: [{ groups: { has: "support" } }] } },
      },
    },
  });
  url = stack.first.url;
  admin = await signIn("platform", `${hostile}@evil.example`);
  viewer = await signIn("support");
});
afterAll(() => stack?.close());

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

async function send(path: string, cookie: string, form?: Record<string, string>): Promise<Answer> {
  const response = await fetch(`${url}/admin/${path}`, {
    method: form ? "POST" : "GET",
    redirect: "manual",
    headers: { cookie, ...(form && { origin: url }) },
    body: form ? new URLSearchParams(form) : null,
  });
  return { status: response.status, headers: response.headers, text: await response.text() };
}

async function signIn(group: string, email?: string): Promise<string> {
  const { headers } = await send("sign-in", "", { code: await shownCode(stack, { group, email }) });
  return headers.get("set-cookie")?.split(";")[0] ?? "";
}

/** Presses a button of a page: with the hidden fields of its first form for this path. */
async function press(page: string, path: string, fields: Record<string, string>): Promise<Answer> {
  const { text } = await send(page, admin);
  const hidden = (name: string) => new RegExp(`name="${name}" value="([^"]*)"`).exec(text)?.[1];
  const [csrf = "", version] = ["csrf", "version"].map(hidden);
  return send(path, admin, { csrf, ...(version && { version }), ...fields });
}

const api = (method: string, path: string, body?: unknown) => stack.first.call(method, path, body, { token });
const open = (id: string, more: object = {}) => ({
  ...{ id, from: `https://${id}.test`, to: "http://127.0.0.1:1/mcp" },
  mcp: { server: { upstream_auth: "none" } },
  ...more,
});
/** What the form of a stored route shows. */
async function shownSettings(id: string): Promise<string> {
  const { text } = await send(`routes/${id}/edit`, admin);
  return /<textarea[^>]*>\n?([^<]*)/.exec(text)?.[1] ?? "";
}
const fieldsOf = (id: string) => ({
  ...{ name: "", from: `https://${id}.test`, to: "http://127.0.0.1:1/mcp", auth: "none", enabled: "yes" },
});

describe("settings as YAML", () => {
  test("that begin with a tag, as an unquoted secret may, are neither lost nor printed", async () => {
    await api("POST", "/routes", open("tagged"));
    const printed: string[] = [];
    const record = (warning: Error) => void printed.push(warning.message);
    process.on("warning", record);
    const settings = "mcp: {server: {upstream_auth: {api_key: {header: x-key, value: !Secret-1}}}}";
    const sent = await press("routes/tagged/edit", "routes/tagged/edit", {
      ...fieldsOf("tagged"),
      settings,
    });
    expect([sent.status, sent.text.includes("Unresolved tag")]).toEqual([400, true]);
    await press("routes/tagged/edit", "routes/tagged/edit", {
      ...fieldsOf("tagged"),
      settings: "? [a]\n: b",
    });
    await new Promise(setImmediate);
    process.off("warning", record);
    expect(printed).toEqual([]);
    expect((await api("GET", "/routes/tagged")).body).toMatchObject({ auth: "none" });
  });

  test.each([
    ["nested lists", `policy: ${"[".repeat(900)}${"]".repeat(900)}`],
    ["nested mappings", Array.from({ length: 100 }, (_, level) => `${" ".repeat(level)}a:`).join("\n")],
    ["lists that do not end", "[".repeat(4000)],
    ["aliases", "a: &a [x, x]\nb: &b [*a, *a]\nlabels: [*b, *b]"],
    ["the prototype of objects", "__proto__: {policy: [{allow: {and: [{accept: true}]}}]}"],
  ])("with %s are rejected, and the form keeps what was entered", async (_what, settings) => {
    const sent = await press("new-route", "new-route", { ...fieldsOf("bomb"), settings });
    expect(sent.status).toBe(400);
    expect(sent.text).toContain("Nothing was changed");
    expect((await api("GET", "/routes/bomb-test")).status).toBe(404);
  });

  test("loses a label of any name when its line is removed", async () => {
    await api("POST", "/routes", open("labeled", { labels: { toString: "x", constructor: "y", team: "z" } }));
    const settings = (await shownSettings("labeled")).replace(/\n {2}(toString|constructor): .*/g, "");
    const sent = await press("routes/labeled/edit", "routes/labeled/edit", {
      ...fieldsOf("labeled"),
      settings,
    });
    expect(sent.status).toBe(303);
    expect((await api("GET", "/routes/labeled")).body).toMatchObject({ labels: { team: "z" } });
    expect(await shownSettings("labeled")).not.toContain("toString");
  });
});

test("a form that was opened for a route that has been deleted neither changes nor deletes one that has its id now", async () => {
  await api("POST", "/routes", open("again"));
  const shown = await Promise.all(["", "/edit"].map((page) => send(`routes/again${page}`, admin)));
  const text = shown[1]?.text ?? "";
  expect(shown[0]?.text.match(/name="version"/g)).toHaveLength(2);
  await api("DELETE", "/routes/again");
  await api("POST", "/routes", open("again", { to: "http://127.0.0.1:2/mcp" }));
  const fields = Object.fromEntries(
    ["csrf", "version"].map((name) => [
      name,
      new RegExp(`name="${name}" value="([^"]*)"`).exec(text)?.[1] ?? "",
    ]),
  );
  expect((await send("routes/again/edit", admin, { ...fieldsOf("again"), ...fields })).status).toBe(412);
  expect((await send("routes/again/enabled", admin, { ...fields, enabled: "no" })).status).toBe(412);
  expect((await send("routes/again/delete", admin, { ...fields, confirm: "yes" })).status).toBe(412);
  expect((await api("GET", "/routes/again")).body).toMatchObject({ to: ["http://127.0.0.1:2/mcp"] });
});

describe("addresses and forms", () => {
  test.each(["__proto__", "constructor", "hasOwnProperty", "toString"])(
    "a filter with the name %s is none",
    async (name) => {
      const { status, text } = await send(`routes?state=${name}&source=${name}&page=${name}`, viewer);
      expect([status, text.includes("0 routes")]).toEqual([200, true]);
      expect((await send(`routes?state=${name}`, viewer)).text).toContain('href="/admin/routes/in-file"');
    },
  );

  test.each(["-1", "0", "1.5", "1e999", "NaN", "99999999999999999999"])(
    "page=%s of a list is a page",
    async (page) => {
      expect((await send(`routes?page=${page}`, viewer)).status).toBe(200);
    },
  );

  test.each([
    "connections?user=%00",
    "connections?after_user=%00&after_route=a&after_upstream=b",
    "grants?client=a%00",
    "service-accounts?after_user=%00&after_grant=a",
    "routes/%00",
    "v1/audit?user_id=%00",
    "v1/routes/%00",
    "v1/audit?since=-271821-04-20T00:00:00Z",
  ])("%s is the caller's fault", async (path) => {
    const response = await fetch(`${url}/admin/${path}`, {
      headers: { cookie: admin, authorization: `Bearer ${token}` },
    });
    expect(response.status).toBe(400);
    expect(await response.text()).toContain("invalid_parameter");
  });

  test("a NUL in a form is the caller's fault", async () => {
    for (const [path, fields] of [
      ["connections/revoke", { user: "a\0", route: "b", upstream: "c" }],
      ["service-accounts", { name: "nul", routes: "in-file", owner: "id.test/a\0b", days: "1" }],
      ["service-accounts/revoke", { name: "\0" }],
    ] as const)
      expect((await press("connections", path, fields)).status, path).toBe(400);
  });

  test("a service account has one token for a route that is named a thousand times", async () => {
    const made = await press("service-accounts", "service-accounts", {
      ...{ name: "repeated", routes: "in-file ".repeat(1000), days: "1" },
    });
    expect(made.text.match(/<dd class="mono">eyJ/g)).toHaveLength(1);
    const { text } = await api("GET", "/audit?action=service_account.created&until=2100-01-01T00:00:00Z");
    expect(text).toContain('"routes":"in-file"');
  });

  test("a form that is sent three times at once creates one service account", async () => {
    const fields = { name: "pressed", routes: "in-file", days: "1" };
    const made = await Promise.all(
      [1, 2, 3].map(() => press("service-accounts", "service-accounts", fields)),
    );
    expect(made.map(({ status }) => status).toSorted()).toEqual([200, 400, 400]);
    const { text } = await api("GET", "/audit?action=service_account.created&until=2100-01-01T00:00:00Z");
    expect(text.match(/service-account\/pressed"/g)).toHaveLength(1);
  });

  test("an owner has no control characters, which terminals obey", async () => {
    const owner = "id.test/\u001b[2Jsomebody";
    const fields = { name: "escaping", routes: "in-file", owner, days: "1" };
    expect((await press("service-accounts", "service-accounts", fields)).status).toBe(400);
  });

  test("a client that goes away before its form has arrived is not an error of the gateway", async () => {
    const arrived = new Promise<IncomingMessage>((resolve) => {
      const started = (message: unknown) => {
        const { request } = message as { readonly request: IncomingMessage };
        if (request.headers["x-attempt"] !== "cut off") return;
        unsubscribe("http.server.request.start", started);
        resolve(request);
      };
      subscribe("http.server.request.start", started);
    });
    const { hostname, port, host } = new URL(url);
    const socket = connect(Number(port), hostname);
    const type = "content-type: application/x-www-form-urlencoded\r\ncontent-length: 100\r\n";
    const headers = `host: ${host}\r\norigin: ${url}\r\nx-attempt: cut off\r\n${type}`;
    socket.write(`POST /admin/sign-in HTTP/1.1\r\n${headers}\r\ncode=`);
    const request = await arrived;
    const closed = once(request, "close");
    socket.destroy();
    await closed.catch(() => {});
    expect((await send("", admin)).text).not.toContain("a request to the admin page failed");
  });

  test("a post with another media type is rejected before it is read as a form", async () => {
    for (const type of ["multipart/form-data; boundary=x", "application/json", "text/plain"]) {
      const headers = { cookie: admin, origin: url, "content-type": type };
      const response = await fetch(`${url}/admin/sign-out`, { method: "POST", headers, body: "a=b" });
      expect(response.status, type).toBe(415);
    }
    expect((await send("", admin)).status).toBe(200);
  });
});

describe("with write access to the database", () => {
  const database = (text: string) => connected(stack.env.DATABASE_URL, (client) => client.query(text));
  const make = (name: string) =>
    press("service-accounts", "service-accounts", { name, routes: "in-file", days: "1" });

  test("a grant is not protected from revocation by damage to its content", async () => {
    await make("damaged");
    await database(`update authorization_server_record set sealed = 'e30.a.b.c.d'
      where model = 'Grant' and user_id = 'service-account/damaged'`);
    for (const path of ["grants", "service-accounts"])
      expect((await send(path, admin)).text, path).toContain("damaged");
    expect((await make("damaged")).text).toContain("already exists");
    expect((await press("grants", "service-accounts/revoke", { name: "damaged" })).status).toBe(303);
    expect((await send("grants", admin)).text).not.toContain("damaged");
  });

  test("nor does damage to grants and signing keys prevent that all access is ended", async () => {
    const made = await startAdmin();
    try {
      const command = { file: made.file, env: made.env, out: () => {}, err: () => {} };
      const drained = async () => true;
      const account = { kind: "create", name: "kept", routeIds: ["in-file"], lifetime: 60 } as const;
      await runServiceAccounts(account, { ...command, drained });
      await connected(made.env.DATABASE_URL, (client) =>
        client.query(`update authorization_server_record set sealed = 'e30.a.b.c.d' where model = 'Grant';
          update signing_key set sealed = 'e30.a.b.c.d' where purpose in ('external_token', 'assertion')`),
      );
      expect(await runEndAccess({ ...command, reason: "restored" })).toBe(0);
    } finally {
      await made.close();
    }
  });

  test.each(["infinity", "-infinity", "290000-01-01", "4000-01-01 BC"])(
    "a time that no calendar has (%s) fails neither a page nor a list",
    async (time) => {
      await make(`timed-${randomBytes(4).toString("hex")}`);
      await api("POST", "/routes", open("timed"));
      await inStore(stack, async ({ store }) => {
        await store.replicas.report({ name: "timed", version: "1", startedAt: new Date() });
        await store.upstreamTokens.put(upstreamToken(), audit("upstream_token.obtained"));
      });
      const columns = {
        replica: ["started_at"],
        upstream_token: ["connected_at", "updated_at", "expires_at"],
        authorization_server_record: ["created_at"],
        stored_route: ["created_at", "updated_at"],
      };
      for (const [table, names] of Object.entries(columns))
        await database(`update ${table} set ${names.map((name) => `${name} = '${time}'`).join()}`);
      for (const path of ["", "routes", "routes/timed", "connections", "grants", "service-accounts"])
        expect((await send(path, admin)).status, path).toBe(200);
      expect((await api("GET", "/routes")).status).toBe(200);
      await api("DELETE", "/routes/timed");
    },
  );

  test("forged rows do not hide the grants after them", async () => {
    await make("concealed");
    await database(`insert into authorization_server_record
      (model, id_name, sealed, key_id, grant_id, user_id, client_id, expires_at)
      select 'Grant', 'forged' || n, 'x', 'k', 'g' || n, '', 'service-account', now() + interval '1 day'
      from generate_series(1, 501) n`);
    for (const path of ["grants", "service-accounts"])
      expect((await send(path, admin)).text, path).toContain("concealed");
    await database("delete from authorization_server_record where id_name like 'forged%'");
  });
});

test("what others have written is text on every page, and no page can be framed, scripted or cached", async () => {
  await api(
    "POST",
    "/routes",
    open("hostile", { name: hostile, description: hostile, labels: { x: hostile } }),
  );
  await inStore(stack, async ({ store }) => {
    await store.replicas.report({ name: hostile, version: hostile, startedAt: new Date() });
    const connection = { userId: `company/${hostile}`, upstream: hostile };
    await store.upstreamTokens.put(upstreamToken(connection), audit("upstream_token.obtained"));
  });
  const owner = `id.test/${hostile}`;
  await press("service-accounts", "service-accounts", { name: "owned", routes: "in-file", owner, days: "1" });
  const invalid = { name: hostile, routes: hostile, owner: hostile, days: hostile };
  const answers = [
    await press("service-accounts", "service-accounts", invalid),
    await press("new-route", "new-route", { from: hostile, to: hostile, name: hostile, settings: hostile }),
    await press("routes/hostile", "routes/hostile/doctor", {}),
    await send("routes/hostile", viewer),
    await send("sign-in", ""),
  ];
  for (const path of [
    ...["", "routes", `routes?q=${encodeURIComponent(hostile)}`, "routes/hostile", "routes/hostile/edit"],
    ...["grants", `grants?user=${encodeURIComponent(hostile)}`, "connections", "service-accounts", "keys"],
    `routes/${encodeURIComponent(hostile)}`,
    "?done=%3Cscript%3E",
    `nowhere/${encodeURIComponent(hostile)}`,
  ])
    answers.push(await send(path, admin));
  expect(answers.filter(({ text }) => text.includes("alert(1)")).length).toBeGreaterThan(8);
  for (const { text, headers } of answers) {
    expect(text).not.toMatch(/<script|<\/title><|"'>/);
    expect(headers.get("content-security-policy")).toMatch(/^default-src 'none';.*frame-ancestors 'none'$/);
    expect(headers.get("cache-control")).toBe("no-store");
  }
});

test("an address without a page is 404 with one that leads back; the API keeps its own answers", async () => {
  const nowhere = await send("nowhere", admin);
  expect(nowhere).toMatchObject({ status: 404, text: expect.stringContaining('href="/admin/"') });
  const api = await send("v1/nowhere", admin);
  expect([api.status, api.text]).toEqual([expect.any(Number), expect.not.stringContaining("<html")]);
});

test("an administrator who leaves the group while the upstream is asked adds no route", async () => {
  const upstream = await scriptedUpstream();
  const leaver = await signIn("platform");
  upstream.on("/register", async ({ body }) => {
    await inStore(stack, async ({ store }) => {
      const person = await store.signInSessions.find("company/carol");
      if (person) await store.signInSessions.put({ ...person, groups: [] });
    });
    return { status: 201, body: { client_id: "c", redirect_uris: JSON.parse(body).redirect_uris } };
  });
  const { text } = await send("new-route", leaver);
  const csrf = /name="csrf" value="([^"]*)"/.exec(text)?.[1] ?? "";
  const fields = { ...fieldsOf("leaver"), id: "leaver", to: upstream.mcp, auth: "oauth", settings: "" };
  const sent = await send("new-route", leaver, { csrf, ...fields });
  expect([sent.status, sent.text.includes("your access has ended")]).toEqual([403, true]);
  expect((await api("GET", "/routes/leaver")).status).toBe(404);
  await upstream.close();
});
