import { beforeAll, describe, expect, it } from "vitest";
import type { StackConfig } from "../../../../dev/demo/stack-config.ts";
import type { E2e } from "../../../support/e2e.ts";
import { throughEnvoy } from "../../../support/through-envoy.ts";
import { initialize, mcpHeaders } from "./token-behavior.ts";

/** The tool that `withToolPolicy` denies. */
const denied = "add";

/** The routes file with a tool policy on the everything route. */
export function withToolPolicy(config: StackConfig): StackConfig {
  const routes = config.routes.map((route) =>
    route.id === "everything" ? { ...route, tools: { deny: [denied] } } : route,
  );
  return { ...config, routes };
}

/** Bodies are inspected on the everything route (`withToolPolicy`): what is denied or unreadable does not reach the server. */
export function toolPolicyBehavior(running: () => E2e): void {
  describe("a tool policy", () => {
    let stack: E2e;
    let bearer: string;
    let session: string;
    const url = "https://everything.test/";

    beforeAll(async () => {
      stack = running();
      bearer = `Bearer ${await stack.externalToken("alice")}`;
      const answer = await post(initialize);
      expect(answer.status).toBe(200);
      session = answer.header("mcp-session-id") ?? "";
      expect(session).not.toBe("");
    });

    const post = (body: string, more: Record<string, string> = {}) =>
      throughEnvoy(stack, {
        url,
        method: "POST",
        headers: {
          ...mcpHeaders,
          authorization: bearer,
          ...(session ? { "mcp-session-id": session } : {}),
          ...more,
        },
        body,
      });
    const toolCall = (name: string, args: object = {}) =>
      JSON.stringify({ jsonrpc: "2.0", id: 3, method: "tools/call", params: { name, arguments: args } });
    const arrived = () => stack.everything.requests.length;

    it("lets an allowed call pass with its body unchanged", async () => {
      const before = arrived();
      const message = "Grüße! 日本語!!";
      const answer = await post(toolCall("echo", { message }));
      expect(answer.status).toBe(200);
      expect(answer.body).toContain("日本語");
      expect(arrived()).toBe(before + 1);
    });

    it("answers a denied call itself, with the request's id", async () => {
      const before = arrived();
      const answer = await post(toolCall(denied, { a: 1, b: 2 }));
      expect(answer.status).toBe(200);
      expect(JSON.parse(answer.body)).toMatchObject({
        id: 3,
        error: { code: -32602, data: { reason: "tool_not_allowed" } },
      });
      expect(arrived()).toBe(before);
    });

    it("does not list denied tools", async () => {
      const answer = await post('{"jsonrpc":"2.0","id":4,"method":"tools/list"}');
      expect(answer.status).toBe(200);
      expect(answer.body).toContain('"echo"');
      expect(answer.body).not.toContain(`"${denied}"`);
    });

    it.each([
      [
        "a repeated key",
        `{"jsonrpc":"2.0","id":5,"method":"ping","method":"tools/call","params":{"name":"${denied}"}}`,
      ],
      [
        "a key in another case",
        `{"jsonrpc":"2.0","id":5,"method":"ping","Method":"tools/call","params":{"name":"${denied}"}}`,
      ],
      [
        "a batch",
        `[{"jsonrpc":"2.0","id":5,"method":"ping"},${`{"jsonrpc":"2.0","id":6,"method":"tools/call","params":{"name":"${denied}"}}`}]`,
      ],
      ["not JSON", "tools/call"],
    ])("denies a message that servers may read differently: %s", async (_what, body) => {
      const before = arrived();
      const answer = await post(body);
      expect([200, 400]).toContain(answer.status);
      expect(answer.body).toContain('"error"');
      expect(arrived()).toBe(before);
    });

    it("denies a compressed body", async () => {
      const before = arrived();
      const answer = await post(toolCall("echo", { message: "x" }), { "content-encoding": "gzip" });
      expect([400, 415]).toContain(answer.status);
      expect(arrived()).toBe(before);
    });

    it("denies a body that is longer than what policy may inspect", async () => {
      const before = arrived();
      const answer = await post(toolCall("echo", { message: "x".repeat(1_200_000) }));
      expect([200, 400, 413]).toContain(answer.status);
      expect(answer.body).not.toContain('"result"');
      expect(arrived()).toBe(before);
    });
  });
}
