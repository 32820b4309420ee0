import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { McpClient } from "../../../dev/demo/mcp-client.ts";
import { type E2e, startE2e } from "../../support/e2e.ts";

/** The SDK's own OAuth client against us: what it does with a 401 and a 403 decides what people see. */
describe("the upstream's consent, with the real MCP SDK as client", () => {
  let stack: E2e;
  let client: McpClient;
  const whoami = () => client.run((mcp) => mcp.callTool({ name: "whoami", arguments: {} }));

  beforeAll(async () => {
    stack = await startE2e();
    client = await stack.client("alice");
  });
  afterAll(() => stack?.close());

  it("happens in the same browser trip as ours, the first time", async () => {
    expect(JSON.stringify(await whoami())).toContain("ally");
    expect(client.authorizations()).toBe(1);
  });

  it("a dead upstream token with a live refresh token costs the person nothing", async () => {
    await stack.upstream.killAccessTokens("ally");
    expect(JSON.stringify(await whoami())).toContain("ally");
    expect(client.authorizations()).toBe(1);
  });

  it("a connection revoked at the upstream is asked for again, and only there", async () => {
    await stack.upstream.revokeGrants("ally");
    expect(JSON.stringify(await whoami())).toContain("ally");
    expect(client.authorizations()).toBe(2);
    expect(JSON.stringify(await whoami())).toContain("ally");
    expect(client.authorizations()).toBe(2);
  });

  it("a tool that wants more scope gets it after one more consent, without losing the old scope", async () => {
    const note = await client.run((mcp) =>
      mcp.callTool({ name: "write_note", arguments: { text: "hello" } }),
    );
    expect(note.isError ?? false).toBe(false);
    expect(client.authorizations()).toBe(3);
    expect(JSON.stringify(await whoami())).toContain("ally");
    expect(client.authorizations()).toBe(3);
  });

  it("ends with a proper OAuth error when the person refuses at the upstream", async () => {
    const refusing = await stack.client("bob", undefined, {});
    const browser = stack.browser("bob");
    const agree = browser.agree;
    // Bob signs in everywhere, but cancels when the upstream asks.
    Object.assign(browser, {
      agree: async (...[page, signIn]: Parameters<typeof agree>) => {
        let current = page;
        for (let step = 0; step < 12 && current.html.includes("<form"); step += 1) {
          const atUpstream =
            current.url.origin === stack.upstream.issuer && !current.html.includes('name="password"');
          const values = current.html.includes('name="password"') ? { ...signIn(current.url.origin) } : {};
          current = await browser.submit(
            current,
            values,
            atUpstream ? "decision=deny" : firstButton(current.html),
          );
        }
        return current;
      },
    });
    await expect(refusing.connect()).rejects.toThrow(/access_denied/);
  });
});

function firstButton(html: string): string | undefined {
  const [, name, value] = /<button[^>]*name="([^"]+)"[^>]*value="([^"]*)"/.exec(html) ?? [];
  return name && `${name}=${value}`;
}
