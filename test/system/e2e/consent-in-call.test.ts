import { readFileSync } from "node:fs";
import { parse } from "node-html-parser";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type E2e, startE2e, type User } from "../../support/e2e.ts";
import { type RawAnswer, throughEnvoy } from "../../support/through-envoy.ts";
import { type AskedClient, clientOfV1, clientOfV2, modernServer } from "./asking-clients.ts";

const capabilities = "io.modelcontextprotocol/clientCapabilities";
const canShow = { elicitation: { url: {} } };
/** Routes beside the stack's own: to the same server with other settings, and to a server of 2026-07-28. */
const names = ["modern", "challenged", "asked", "inspected"] as const;
type Name = (typeof names)[number];
const hostOf = (name: Name | "everything") => `https://${name}.test`;

describe("a call that lacks the upstream's consent", () => {
  let modern: Awaited<ReturnType<typeof modernServer>>;
  let stack: E2e;
  const tokens = new Map<string, string>();

  beforeAll(async () => {
    modern = await modernServer(() => stack);
    stack = await startE2e({
      names: names.map((name) => `${name}.test`),
      redirectUris: names.map((name) => `${hostOf(name)}/.pomerium/mcp/client/oauth/callback`),
      config: (config) => {
        const [plain] = config.routes;
        const mcp = Object(plain?.mcp);
        const like = (id: Name, to: unknown, server: object) => ({
          ...plain,
          id,
          name: id,
          from: hostOf(id),
          to,
          mcp: { server: { ...mcp.server, ...server } },
        });
        const more = [
          like("modern", modern.url, {}),
          like("challenged", plain?.to, { consent: "challenge" }),
          like("asked", plain?.to, { consent: "elicitation" }),
          like("inspected", plain?.to, { tools: { deny: ["write_note"] } }),
        ];
        return { ...config, routes: [...config.routes, ...more] };
      },
    });
    for (const name of ["everything", ...names] as const) {
      const client = await stack.client("alice", hostOf(name));
      // The server of 2026-07-28 rejects this client, after the flow.
      await client.connect().catch(() => {});
      tokens.set(name, client.tokens()?.access_token ?? "");
    }
  });
  afterAll(async () => {
    await stack?.close();
    await modern?.close();
  });

  async function disconnect(user: User, route: Name | "everything"): Promise<void> {
    const browser = stack.browser(user);
    const page = await browser.open("https://auth.test/.pomerium/routes");
    const form = parse(page.html)
      .querySelectorAll('form[action$="/disconnect"]')
      .find((one) => one.querySelector(`[name=route][value=${route}]`));
    if (form) await browser.submit({ ...page, html: String(form) }, { route });
  }
  /** All routes share one grant at the upstream's authorization server, which ends with each disconnected one. */
  async function reconnect(user: User, route: Name | "everything"): Promise<void> {
    await disconnect(user, route);
    const nowhere = `${hostOf(route)}/.well-known/oauth-protected-resource`;
    const query = new URLSearchParams({ route, redirect_url: nowhere });
    const browser = stack.browser(user);
    const start = await browser.open(`${hostOf(route)}/.pomerium/mcp/connect?${query}`);
    expect((await browser.agree(start, stack.signIn(user))).url.href).toBe(nowhere);
  }
  /** Opens a consent link and agrees to everything; returns the last page. */
  const consent = async (user: User, url: string) =>
    stack.browser(user).agree(await stack.browser(user).open(url), stack.signIn(user));
  const at = (name: Name | "everything", more: Partial<AskedClient> = {}): AskedClient => ({
    url: hostOf(name),
    token: tokens.get(name) ?? "",
    fetch: stack.fetch,
    ...more,
  });
  const whoami = { name: "whoami", arguments: {} };
  /** The error of a rejected promise. */
  const failure = (call: Promise<unknown>) =>
    call.then(
      (result) => Promise.reject(new Error(`succeeded: ${JSON.stringify(result)}`)),
      (error: {
        code?: unknown;
        data?: { elicitations?: { url: string; mode: string }[] };
        message: string;
      }) => error,
    );
  const post = (
    name: Name | "everything",
    headers: Record<string, string>,
    body: unknown,
  ): Promise<RawAnswer> =>
    throughEnvoy(stack, {
      url: `${hostOf(name)}/`,
      method: "POST",
      headers: {
        authorization: `Bearer ${tokens.get(name)}`,
        "content-type": "application/json",
        accept: "application/json, text/event-stream",
        ...headers,
      },
      body: typeof body === "string" ? body : JSON.stringify(body),
    });
  const call = (params: object = whoami, method = "tools/call") => ({
    jsonrpc: "2.0",
    id: 7,
    method,
    params,
  });
  const modernCall = (more: object = {}) =>
    call({ ...whoami, name: "hello", _meta: { [capabilities]: canShow }, ...more });
  const in2026 = (method = "tools/call") => ({ "mcp-protocol-version": "2026-07-28", "mcp-method": method });
  const asked = (answer: RawAnswer) => JSON.parse(answer.body).result?.resultType === "input_required";

  it.each([
    ["the first major version of the SDK", (options: AskedClient) => clientOfV1(options)],
    ["the second one", (options: AskedClient) => clientOfV2({ ...options, revision: "2025-11-25" })],
  ])(
    "2025-11-25, %s: error -32042 with a link; after consent the retry passes in the same session",
    async (_name, open) => {
      await reconnect("alice", "everything");
      const client = await open(at("everything"));
      expect(JSON.stringify(await client.callTool(whoami))).toContain("ally");
      await disconnect("alice", "everything");
      const error = await failure(client.callTool(whoami));
      expect(error.code).toBe(-32042);
      const [elicitation] = error.data?.elicitations ?? [];
      expect(elicitation).toMatchObject({ mode: "url", message: expect.stringContaining("Everything") });
      expect((await consent("alice", elicitation?.url ?? "")).html).toContain("Everything is connected");
      expect(JSON.stringify(await client.callTool(whoami))).toContain("ally");
      await client.close();
    },
  );

  it("2026-07-28: the SDK shows the link and repeats the call by itself", async () => {
    const shown: string[] = [];
    const open = () =>
      clientOfV2({
        ...at("modern"),
        revision: "2026-07-28",
        async show({ url, message }) {
          shown.push(message);
          await consent("alice", url);
          return "accept";
        },
      });
    // server/discover, with which clients begin, lacks the consent as well.
    await disconnect("alice", "modern");
    await expect(open()).rejects.toThrow(/unauthorized|401/i);
    await reconnect("alice", "modern");
    const client = await open();
    await disconnect("alice", "modern");
    expect(await client.callTool({ name: "hello", arguments: {} })).toMatchObject({
      content: [{ text: "hello" }],
    });
    expect(shown).toEqual([expect.stringContaining("modern needs your consent")]);
    await client.close();
  });

  it("2026-07-28: who declines gets an error, not a browser", async () => {
    await reconnect("alice", "modern");
    const client = await clientOfV2({ ...at("modern"), revision: "2026-07-28", show: async () => "decline" });
    await disconnect("alice", "modern");
    const error = await failure(client.callTool({ name: "hello", arguments: {} }));
    expect(error.message).toContain("which you declined");
    await client.close();
  });

  it("clients that cannot show a URL get the challenge that they have always got", async () => {
    for (const elicitation of [undefined, { form: {} }]) {
      await reconnect("alice", "everything");
      const client = await clientOfV1(at("everything", { capabilities: elicitation ? { elicitation } : {} }));
      await disconnect("alice", "everything");
      await expect(client.callTool(whoami)).rejects.toThrow(/401|unauthorized/i);
      await client.close();
    }
    await disconnect("alice", "modern");
    for (const elicitation of [undefined, {}, { form: {} }]) {
      const answer = await post(
        "modern",
        in2026(),
        modernCall({ _meta: { [capabilities]: { elicitation } } }),
      );
      expect(answer.status).toBe(401);
    }
  });

  it("the challenge is the same whether the check or the HTTP listener sends it", async () => {
    await disconnect("alice", "modern");
    const byCheck = await post("modern", {}, modernCall());
    const byListener = await post("modern", in2026(), call());
    expect(byCheck.status).toBe(401);
    expect(byListener.status).toBe(401);
    const facts = ({ headers, body }: RawAnswer) => ({
      headers: headers
        .filter(
          ([name]) => !["date", "x-request-id", "content-length", "connection", "keep-alive"].includes(name),
        )
        .map(([name, value]) => `${name}: ${name === "vary" ? value.toLowerCase() : value}`)
        .sort(),
      body: { ...JSON.parse(body), request_id: "" },
    });
    expect(facts(byListener)).toEqual(facts(byCheck));
    const id = byListener.header("x-request-id");
    expect(JSON.parse(byListener.body).request_id).toBe(id);
    const [line] = readFileSync(stack.sidecar().logFile, "utf8")
      .split("\n")
      .filter((one) => one.includes(`"requestId":"${id}"`));
    expect(JSON.parse(line ?? "{}")).toMatchObject({
      decision: "challenge",
      reason: "consent_needed",
      route: "modern",
    });
  });

  it.each<[string, Record<string, string>, unknown]>([
    ["a notification", in2026(), { ...modernCall(), id: undefined }],
    ["a batch", in2026(), [modernCall()]],
    ["a response", in2026(), { jsonrpc: "2.0", id: 1, result: {} }],
    ["another method", in2026("tools/list"), call({ _meta: { [capabilities]: canShow } }, "tools/list")],
    [
      "a method that its header does not name",
      in2026(),
      call({ _meta: { [capabilities]: canShow } }, "tools/list"),
    ],
    [
      "a body longer than limits.body_bytes",
      in2026(),
      modernCall({ arguments: { text: "x".repeat(20_000) } }),
    ],
    ["an earlier revision", { "mcp-protocol-version": "2025-06-18", "mcp-session-id": "s" }, call()],
    ["no revision", { "mcp-session-id": "s" }, call()],
    ["a revision that is not a date", { "mcp-protocol-version": "zzz" }, modernCall()],
    ["2025-11-25 without a session", { "mcp-protocol-version": "2025-11-25" }, call()],
    [
      "a session that no client has opened",
      { "mcp-protocol-version": "2025-11-25", "mcp-session-id": "s" },
      call(),
    ],
  ])("%s is challenged", async (_name, headers, body) => {
    await disconnect("alice", "modern");
    const answer = await post("modern", headers, body);
    expect([answer.status, answer.header("www-authenticate")]).toEqual([
      401,
      expect.stringContaining("Bearer "),
    ]);
  });

  it("mcp.server.consent: challenge never asks; elicitation also asks sessions whose client is unknown", async () => {
    for (const name of ["challenged", "asked"] as const) await disconnect("alice", name);
    const session = { "mcp-protocol-version": "2025-11-25", "mcp-session-id": "s" };
    expect((await post("challenged", in2026(), modernCall())).status).toBe(401);
    expect((await post("challenged", session, call())).status).toBe(401);
    expect(asked(await post("asked", in2026(), modernCall()))).toBe(true);
    expect(JSON.parse((await post("asked", session, call())).body)).toMatchObject({
      id: 7,
      error: { code: -32042 },
    });
  });

  it("on a route with a tool policy, policy decides first", async () => {
    await disconnect("alice", "inspected");
    const denied = await post("inspected", in2026(), modernCall({ name: "write_note" }));
    expect(JSON.parse(denied.body)).toMatchObject({
      error: { message: expect.stringContaining("write_note") },
    });
    expect(asked(await post("inspected", in2026(), modernCall({ name: "whoami" })))).toBe(true);
  });

  it("a session's row belongs to its user", async () => {
    const client = await stack.client("bob");
    await client.connect();
    await reconnect("alice", "everything");
    const opened = await post(
      "everything",
      { "mcp-protocol-version": "2025-11-25" },
      {
        jsonrpc: "2.0",
        id: 1,
        method: "initialize",
        params: {
          protocolVersion: "2025-11-25",
          capabilities: canShow,
          clientInfo: { name: "a", version: "1" },
        },
      },
    );
    const session = {
      "mcp-protocol-version": "2025-11-25",
      "mcp-session-id": opened.header("mcp-session-id") ?? "",
    };
    await disconnect("alice", "everything");
    await expect
      .poll(async () => (await post("everything", session, call())).status, { timeout: 60_000 })
      .toBe(200);
    await disconnect("bob", "everything");
    const his = await post(
      "everything",
      { ...session, authorization: `Bearer ${client.tokens()?.access_token}` },
      call(),
    );
    expect(his.status).toBe(401);
  });

  it("only the start of such a session passes through ext_proc; its calls do not", async () => {
    const streams = async () => {
      const admin = /admin: (127\.0\.0\.1:\d+)\n +tls/.exec(readFileSync(stack.configFile, "utf8"))?.[1];
      const response = await fetch(`http://${admin}/stats?filter=ext_proc.streams_started`);
      return Number(/streams_started: (\d+)/.exec(await response.text())?.[1] ?? 0);
    };
    await reconnect("alice", "everything");
    const before = await streams();
    const plain = await clientOfV1(at("everything", { capabilities: {} }));
    await plain.callTool(whoami);
    expect(await streams()).toBe(before);
    const client = await clientOfV1(at("everything"));
    expect(await streams()).toBe(before + 1);
    for (let calls = 0; calls < 3; calls++) await client.callTool(whoami);
    expect(await streams()).toBe(before + 1);
    await plain.close();
    await client.close();
  });
});
