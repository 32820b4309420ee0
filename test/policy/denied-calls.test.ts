import { describe, expect, it } from "vitest";
import { jsonRpcDenialBody, type PolicyDecision } from "../../src/policy/policy.ts";
import { requestFrom } from "./request-from.ts";
import { routeWith } from "./route-with.ts";

const { policy } = routeWith(
  "policy:\n  allow: {and: [{domain: example.com}]}\n  deny: {and: [{mcp_tool: {is: drop_table}}]}",
);

function answerTo(request: Parameters<typeof policy.decide>[0]): unknown {
  const decision = policy.decide(request);
  if (decision.kind !== "deny_call") throw new Error(`${decision.kind}, not deny_call`);
  return JSON.parse(jsonRpcDenialBody(decision, "req-7"));
}
const withBody = (body: unknown) => ({
  ...requestFrom("ann", "ping"),
  body: Buffer.from(JSON.stringify(body)),
});
const call = (id: unknown, name: string) => ({ jsonrpc: "2.0", id, method: "tools/call", params: { name } });

describe("a denied call is a JSON-RPC error that an agent can read", () => {
  it("carries the request's id, -32602, a message, the request id and a reason code", () => {
    expect(answerTo(requestFrom("ann", "call drop_table"))).toEqual({
      jsonrpc: "2.0",
      id: 1,
      error: {
        code: -32602,
        message: 'The tool "drop_table" is not allowed for you here. Do not call it again.',
        data: { request_id: "req-7", reason: "tool_not_allowed" },
      },
    });
  });

  it.each([0, -7, "a-1", "1", ""])("keeps the id %j", (id) => {
    expect(answerTo(withBody(call(id, "drop_table")))).toMatchObject({ id });
  });

  it("answers a batch with a batch, and reports allowed calls as not carried out", () => {
    const body = [call(1, "query"), { jsonrpc: "2.0", method: "notifications/x" }, call("b", "drop_table")];
    expect(answerTo(withBody(body))).toMatchObject([
      { id: 1, error: { code: -32602, data: { reason: "batch_not_allowed" } } },
      { id: "b", error: { code: -32602, data: { reason: "tool_not_allowed" } } },
    ]);
  });

  it("answers a batch of one with a batch of one", () => {
    expect(answerTo(withBody([call(1, "drop_table")]))).toMatchObject([{ id: 1 }]);
  });

  it("does not reveal the rule", () => {
    const decision = policy.decide(requestFrom("ann", "call drop_table"));
    expect(decision.kind === "deny_call" && decision.rule).toBe("routes[0].policy.deny.and");
    expect(JSON.stringify(answerTo(requestFrom("ann", "call drop_table")))).not.toMatch(/deny|routes|policy/);
    const denied: PolicyDecision = policy.decide(requestFrom("bob", "call drop_table"));
    expect(denied).toMatchObject({ kind: "deny", status: 403, reason: "not_allowed" });
    expect(denied.kind === "deny" && denied.message).toBe("You do not have access to this server.");
    const answered =
      denied.kind === "deny" && denied.waiting ? jsonRpcDenialBody(denied.waiting, "req-7") : "";
    expect(JSON.parse(answered)).toEqual({
      jsonrpc: "2.0",
      id: 1,
      error: {
        code: -32600,
        message: "You do not have access to this server.",
        data: { request_id: "req-7", reason: "not_allowed" },
      },
    });
  });

  it("is an HTTP error if no response is expected", () => {
    expect(policy.decide(requestFrom("ann", "call-silently drop_table"))).toMatchObject({
      kind: "deny",
      status: 403,
      reason: "tool_not_allowed",
    });
  });

  it("counts the tool calls of allowed requests", () => {
    const count = (request: string) => {
      const decision = policy.decide(requestFrom("ann", request));
      return decision.kind === "allow" && decision.toolCalls;
    };
    expect([count("ping"), count("call query"), count("batch call a, ping, call b"), count("GET")]).toEqual([
      0, 1, 2, 0,
    ]);
  });
});

describe("the body is requested only if it matters", () => {
  const allow = "policy:\n  allow: {and: [{accept: true}]}";
  it.each([
    ["a policy on the caller only", allow, false],
    ["a criterion on tools", `${allow}\n  deny: {and: [{or: [{not: [{mcp_tool: x}]}]}]}`, true],
    ["a list of tools", `${allow}\ntools: {deny: [x]}`, true],
    ["a limit on requests", `${allow}\nrate_limit: {requests_per_minute: 5}`, false],
    ["a limit on tool calls", `${allow}\nrate_limit: {tool_calls_per_minute: 5}`, true],
    ["a client route", `mcp: {client: {}}\n${allow}\n  deny: {and: [{mcp_tool: x}]}`, false],
  ])("%s", (_, lines, needsBody) => {
    const { policy: compiled } = routeWith(lines);
    expect([compiled.needsBody, compiled.maxBodyBytes > 0]).toEqual([needsBody, needsBody]);
  });
});
