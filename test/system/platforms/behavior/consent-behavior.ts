import { beforeAll, describe, expect, it } from "vitest";
import type { McpClient } from "../../../../dev/demo/mcp-client.ts";
import type { E2e } from "../../../support/e2e.ts";

/** The SDK's OAuth client: how it handles 401 and 403 decides what users see. */
export function consentBehavior(running: () => E2e): void {
  describe("the upstream's consent, with the real MCP SDK as client", () => {
    let stack: E2e;
    let client: McpClient;
    const whoami = () => client.run((mcp) => mcp.callTool({ name: "whoami", arguments: {} }));

    beforeAll(async () => {
      stack = running();
      client = await stack.client("alice");
    });

    it("happens in the same browser flow as ours, the first time", async () => {
      expect(JSON.stringify(await whoami())).toContain("ally");
      expect(client.authorizations()).toBe(1);
    });

    it("an expired upstream token with a valid refresh token does not involve the user", async () => {
      await stack.upstream.killAccessTokens("ally");
      expect(JSON.stringify(await whoami())).toContain("ally");
      expect(client.authorizations()).toBe(1);
    });

    it("a connection revoked at the upstream requires consent again, only at the upstream", async () => {
      await stack.upstream.revokeGrants("ally");
      expect(JSON.stringify(await whoami())).toContain("ally");
      expect(client.authorizations()).toBe(2);
      expect(JSON.stringify(await whoami())).toContain("ally");
      expect(client.authorizations()).toBe(2);
    });

    it("a tool that requires more scopes gets them after one more consent, without losing the old ones", async () => {
      const note = await client.run((mcp) =>
        mcp.callTool({ name: "write_note", arguments: { text: "hello" } }),
      );
      expect(note.isError ?? false).toBe(false);
      expect(client.authorizations()).toBe(3);
      expect(JSON.stringify(await whoami())).toContain("ally");
      expect(client.authorizations()).toBe(3);
    });

    it("ends with a proper OAuth error when the user denies at the upstream", async () => {
      const refusing = await stack.client("bob", undefined, {});
      const browser = stack.browser("bob");
      const agree = browser.agree;
      // Bob signs in everywhere, but cancels at the upstream.
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
      try {
        await expect(refusing.connect()).rejects.toThrow(/access_denied/);
      } finally {
        Object.assign(browser, { agree });
      }
    });
  });
}

function firstButton(html: string): string | undefined {
  const [, name, value] = /<button[^>]*name="([^"]+)"[^>]*value="([^"]*)"/.exec(html) ?? [];
  return name && `${name}=${value}`;
}
