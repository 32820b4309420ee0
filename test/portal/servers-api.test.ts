import { request } from "node:http";
import { text } from "node:stream/consumers";
import { afterEach, describe, expect, it } from "vitest";
import { listen } from "../../dev/demo/listen.ts";
import { createPortal } from "../../src/compose.ts";
import { createExternalTokens } from "../../src/external-tokens/create-external-tokens.ts";
import { startChecks } from "../ext-authz/start-checks.ts";
import { behindEnvoy } from "../support/behind-envoy.ts";
import { type ScriptedUpstream, scriptedUpstream } from "../upstream-oauth/scripted-upstream.ts";
import { alice } from "../upstream-oauth/start-oauth-client.ts";
import { startPortal } from "./start-portal.ts";

const closers: (() => Promise<unknown> | undefined)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

describe("the list of a person's servers", () => {
  async function started() {
    const upstream: ScriptedUpstream = await scriptedUpstream();
    closers.push(upstream.close);
    const stack = await startPortal(`
  - id: files
    from: https://mcp.test
    to: ${upstream.mcp}
    labels: {team: search, availability: default_off, allow_in_plan_mode: true}
    mcp: {server: {}}
  - {id: open, from: https://open.test, to: ${upstream.url}/open, mcp: {server: {upstream_auth: none}}}
  - {id: key, from: https://key.test, to: ${upstream.url}/key, mcp: {server: {upstream_auth: {api_key: {header: x-key, value: k}}}}}`);
    closers.push(stack.close);
    const browser = await stack.browser(alice);
    const list = async (query = "") => {
      const { body } = await browser.open(`https://mcp.test/.pomerium/mcp/routes${query}`);
      const { servers } = JSON.parse(body) as { servers: { url: string; auth_connected: unknown }[] };
      return { servers, states: servers.map(({ auth_connected }) => auth_connected) };
    };
    return { upstream, stack, list };
  }

  it("says which of them the person has connected, and which need no connection; it shows their labels", async () => {
    const { upstream, stack, list } = await started();
    const before = await list();
    expect(before.states).toEqual([false, null, null]);
    expect(before.servers[0]).toMatchObject({
      ...{ labels: { team: "search", availability: "default_off", allow_in_plan_mode: "true" } },
      ...{ availability: "default_off", allow_in_plan_mode: true, connected: false },
    });
    expect(before.servers[1]).not.toHaveProperty("labels");
    await stack.connect(upstream.agree);
    expect((await list()).states).toEqual([true, null, null]);
  });

  it("refreshes an expired token first, and says false if that is not possible", async () => {
    const { upstream, stack, list } = await started();
    upstream.tokenFields.expires_in = 1;
    await stack.connect(upstream.agree);
    const refreshed = () =>
      upstream.tokenRequests.filter((form) => form.get("grant_type") === "refresh_token").length;
    expect(refreshed()).toBe(0);
    const state = async () => (await list("?refresh=true")).states[0];
    do expect(await state()).toBe(true);
    while (refreshed() === 0);
    upstream.refreshTokens.clear();
    await expect.poll(state, { timeout: 60_000 }).toBe(false);
  });
});

describe("too many callers of the servers API at once", () => {
  it("are answered 503 with Retry-After, instead of a list without their servers", async () => {
    const checks = await startChecks(`
issuer: https://auth.test
sign_in: {providers: [{id: idp, issuer: https://idp.test, client_id: x}]}
policy: {allow: {or: [{accept: true}]}}
routes: [{id: a, from: https://mcp.test, to: http://127.0.0.1:1, mcp: {server: {upstream_auth: none}}}]
`);
    closers.push(checks.close);
    const { notifications } = checks.store;
    let isBusy = false;
    const externalTokens = createExternalTokens({
      ...checks,
      fetch,
      // Without notifications, every verification asks the database.
      store: { ...checks.store, notifications: { ...notifications, healthy: () => false } },
      admission: { run: (task) => task(), turnAway: (known) => (known && isBusy ? 7 : undefined) },
    });
    checks.beforeClose(externalTokens.close);
    const portal = createPortal({
      ...checks,
      externalTokens,
      endpointPath: async () => "",
      mayReach: () => true,
      describeClient: async (id: string) => ({ id, source: "registered" as const }),
    });
    const listener = await listen(behindEnvoy().use(portal.routes()).callback());
    closers.push(listener.close);
    const authorization = `Bearer ${await checks.token()}`;
    const ask = async () => {
      const response = await new Promise<import("node:http").IncomingMessage>((resolve, reject) => {
        const headers = { host: "mcp.test", authorization };
        request({ host: "127.0.0.1", port: listener.port, path: "/.pomerium/mcp/routes", headers }, resolve)
          .on("error", reject)
          .end();
      });
      return {
        status: response.statusCode,
        headers: response.headers,
        body: JSON.parse(await text(response)),
      };
    };
    expect((await ask()).body.servers).toHaveLength(1);
    isBusy = true;
    const busy = await ask();
    expect([busy.status, busy.headers["retry-after"], busy.body]).toEqual([
      ...[503, "5"],
      {
        error: "temporarily_unavailable",
        error_description: "too many callers have come at once; try again later",
        request_id: expect.any(String),
      },
    ]);
    isBusy = false;
    expect((await ask()).status).toBe(200);
  });
});
