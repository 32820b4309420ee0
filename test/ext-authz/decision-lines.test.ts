import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { startChecks } from "./start-checks.ts";

const yaml = (log: string) => `
issuer: https://auth.test
log: {${log}}
sign_in: {providers: [{issuer: https://idp.test, client_id: x}]}
policy: {allow: {or: [{accept: true}]}}
routes:
  - {id: open, name: Open, from: https://mcp.test, to: http://127.0.0.1:1, mcp: {server: {upstream_auth: none}}}
  - {id: tools, name: Tools, from: https://tools.test, to: http://127.0.0.1:5, mcp: {server: {upstream_auth: none, tools: {deny: [rm]}}}}
`;

let checks: Awaited<ReturnType<typeof startChecks>>;
beforeAll(async () => {
  checks = await startChecks(yaml(""));
});
afterAll(() => checks?.close());
beforeEach(async () => {
  await checks.reload(yaml(""));
  checks.log.length = 0;
});

const lines = () =>
  checks.log
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter(({ msg }) => /^request (allowed|denied)/.test(String(msg)));

const call = async (name: string, request = "r-1") => {
  const authorization = `Bearer ${await checks.token({ aud: "https://tools.test" })}`;
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/call", params: { name } });
  const headers = { authorization, "content-type": "application/json", "x-request-id": request };
  return checks.ask({ url: "https://tools.test/", headers, body });
};

describe("the line of a decision", () => {
  it("is at debug for allowed calls, unless log.decisions is all: from the next reload, without a restart", async () => {
    const headers = { authorization: `Bearer ${await checks.token()}`, "x-request-id": "r-0" };
    await checks.ask({ headers });
    expect(lines()).toMatchObject([{ level: "debug", decision: "allow" }]);
    await checks.reload(yaml("decisions: all"));
    await checks.ask({ headers });
    expect(lines().slice(1)).toMatchObject([
      {
        level: "info",
        decision: "allow",
        reason: "ok",
        route: "open",
        userId: "idp/alice",
        requestId: "r-0",
      },
    ]);
    await checks.reload(yaml("decisions: denied"));
    await checks.ask({ headers });
    expect(lines().slice(2)).toMatchObject([{ level: "debug" }]);
  });

  it("names the tool where policy reads the body, allowed or denied", async () => {
    await checks.reload(yaml("decisions: all"));
    await call("search", "r-2");
    await call("rm", "r-3");
    expect(lines()).toMatchObject([
      { level: "info", decision: "allow", tool: "search", requestId: "r-2", userId: "idp/alice" },
      { level: "info", decision: "reply", reason: "tool_not_allowed", tool: "rm", requestId: "r-3" },
    ]);
  });

  it("is written once per call: the check before its body is at debug", async () => {
    await checks.reload(yaml("decisions: all"));
    const authorization = `Bearer ${await checks.token({ aud: "https://tools.test" })}`;
    const headers = { authorization, "content-type": "application/json", "content-length": "20" };
    await checks.ask({ url: "https://tools.test/", headers, context: { phase: "headers" } });
    await call("search");
    expect(lines().map(({ level, reason }) => [level, reason])).toEqual([
      ["debug", "headers_ok"],
      ["info", "ok"],
    ]);
  });
});
