import { parse } from "node-html-parser";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { McpClient } from "../../../dev/demo/mcp-client.ts";
import type { StackConfig } from "../../../dev/demo/stack-config.ts";
import { type E2e, startE2e } from "../../support/e2e.ts";
import { throughEnvoy } from "../../support/through-envoy.ts";
import { withoutResponsePath } from "../../support/without-response-path.ts";
import { gatewayBehavior } from "./behavior/gateway-behavior.ts";
import { initialize, mcpHeaders } from "./behavior/token-behavior.ts";

const whoami = (client: McpClient) =>
  client
    .run((mcp) => mcp.callTool({ name: "whoami", arguments: {} }))
    .then((result) => JSON.stringify(result));

function withoutResponses(config: StackConfig): StackConfig {
  return { ...config, envoy: { ...Object(config.envoy), response_path: false } };
}

gatewayBehavior(
  "an Envoy without a response path",
  (options) => startE2e({ ...options, bootstrap: withoutResponsePath }),
  { parts: ["tokens"], config: withoutResponses, more: withoutResponsePathBehavior },
);

/** docs/other-ingresses.md#without-a-response-path, with `envoy.response_path: false`. */
function withoutResponsePathBehavior(running: () => E2e): void {
  describe("what the sidecar cannot see", () => {
    let stack: E2e;
    let alice: McpClient;
    let bob: McpClient;
    beforeAll(async () => {
      stack = running();
      alice = await stack.client("alice");
      bob = await stack.client("bob");
      expect(await whoami(alice)).toContain("ally");
      expect(await whoami(bob)).toContain("bobby");
    });

    const call = (token = alice.tokens()?.access_token) =>
      throughEnvoy(stack, {
        url: stack.urls.everything,
        method: "POST",
        headers: { ...mcpHeaders, ...(token && { authorization: `Bearer ${token}` }) },
        body: initialize,
      });

    it("a denied tool stays listed, and a call of it is still denied", async () => {
      const { tools } = await alice.run((mcp) => mcp.listTools());
      expect(tools.map(({ name }) => name)).toContain("add");
      const reached = stack.everything.requests.length;
      const denied = alice.run((mcp) => mcp.callTool({ name: "add", arguments: { a: 1, b: 2 } }));
      await expect(denied).rejects.toThrow(/not allowed/);
      const calls = stack.everything.requests.slice(reached).filter(({ body }) => body.includes('"add"'));
      expect(calls).toEqual([]);
    });

    it("an upstream's 401 reaches the client without its challenge and without a token; the gateway's own challenge stays", async () => {
      await stack.upstream.killAccessTokens("ally");
      const rejected = await call();
      expect(rejected.status).toBe(401);
      expect(rejected.header("www-authenticate")).toBeUndefined();
      for (const token of stack.upstream.issuedTokens())
        expect(JSON.stringify(rejected)).not.toContain(token);
      const unauthenticated = await call("");
      expect(unauthenticated.status).toBe(401);
      expect(unauthenticated.header("www-authenticate")).toContain("https://everything.test/");
    });

    it("an expired upstream token is refreshed when the client refreshes because of the 401, without the user", async () => {
      const before = alice.authorizations();
      await stack.upstream.killAccessTokens("ally");
      expect((await call()).status).toBe(401);
      expect(await whoami(alice)).toContain("ally");
      expect(alice.authorizations()).toBe(before);
      expect((await call()).status).toBe(200);
    });

    it("a connection revoked at the upstream requires consent again, once, and only of its own user", async () => {
      const [alices, bobs] = [alice.authorizations(), bob.authorizations()];
      await stack.upstream.revokeGrants("ally");
      expect(await whoami(alice)).toContain("ally");
      expect(alice.authorizations()).toBe(alices + 1);
      expect(await whoami(bob)).toContain("bobby");
      expect(await whoami(alice)).toContain("ally");
      expect([alice.authorizations(), bob.authorizations()]).toEqual([alices + 1, bobs]);
    });

    it("a client that has lost its tokens is asked for consent in the browser, too", async () => {
      const before = bob.authorizations();
      await stack.upstream.revokeGrants("bobby");
      bob.forget("tokens");
      expect(await whoami(bob)).toContain("bobby");
      expect(bob.authorizations()).toBe(before + 1);
    });

    it("a tool that requires more scopes fails, and the connection stays", async () => {
      const note = alice.run((mcp) => mcp.callTool({ name: "write_note", arguments: { text: "x" } }));
      await expect(note).rejects.toMatchObject({ code: 403 });
      expect(await whoami(alice)).toContain("ally");
    });
  });
}

describe("an Envoy without a response path that removes no headers, and a sidecar that expects a response path", () => {
  let stack: E2e;
  beforeAll(async () => {
    stack = await startE2e({ bootstrap: (bootstrap) => withoutResponsePath(bootstrap, []) });
  });
  afterAll(() => stack?.close());

  it("a revoked connection fails until the user disconnects it in the portal; then the client authorizes again", async () => {
    const client = await stack.client("alice");
    expect(await whoami(client)).toContain("ally");
    await stack.upstream.revokeGrants("ally");
    // The upstream's own challenge names another resource.
    await expect(whoami(client)).rejects.toThrow(/does not match expected/);
    await expect(whoami(client)).rejects.toThrow(/does not match expected/);
    expect(client.authorizations()).toBe(1);

    const browser = stack.browser("alice");
    const portal = await browser.open("https://auth.test/.pomerium/routes");
    const disconnect = parse(portal.html)
      .querySelectorAll("form")
      .find((form) => form.getAttribute("action")?.endsWith("/disconnect"));
    await browser.submit({ ...portal, html: disconnect?.toString() ?? "" }, {});
    expect(await whoami(client)).toContain("ally");
    expect(client.authorizations()).toBe(2);
  });
});
