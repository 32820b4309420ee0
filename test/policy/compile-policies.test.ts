import { describe, expect, it } from "vitest";
import { createRouteTable } from "../../src/config/route-table.ts";
import type { PolicyNode, Route } from "../../src/model/route.ts";
import { compilePolicies, createCurrentPolicies } from "../../src/policy/route-policy.ts";
import { policyWarnings } from "../../src/policy/warnings.ts";
import { loadPolicies } from "./load-policies.ts";
import { people } from "./people.ts";
import { requestFrom } from "./request-from.ts";
import { routeWith } from "./route-with.ts";

const route = (host: string, lines: string) =>
  `  - from: https://${host}.example.com\n    to: http://${host}:8080/mcp\n    mcp: {server: {}}\n${lines}`;
const file = (top: string, ...routes: string[]) =>
  `issuer: https://auth.example.com\n${top}routes:\n${routes.join("")}`;
const shared = "policy: {allow: {and: [{domain: example.com}]}}\n";

describe("which policy applies to a route", () => {
  it("the top-level policy applies to routes without one; a route's own policy replaces it", () => {
    const config = loadPolicies(
      file(shared, route("a", ""), route("b", "    policy: {allow: {and: [{domain: partner.io}]}}\n")),
    );
    const table = compilePolicies(config);
    const [a, b] = config.routes.map(({ id }) => table.forRoute(id));
    const rule = (policy: typeof a, who: string) => policy?.decide(requestFrom(who, "GET"));
    expect(rule(a, "ann")).toMatchObject({ kind: "allow", rule: "policy.allow.and" });
    expect(rule(a, "bob")).toMatchObject({ kind: "deny", rule: "no rule" });
    expect(rule(b, "ann")).toMatchObject({ kind: "deny", rule: "no rule" });
    expect(rule(b, "bob")).toMatchObject({ kind: "allow", rule: "routes[1].policy.allow.and" });
  });

  it("an unknown route denies all requests", () => {
    const policy = compilePolicies(loadPolicies(file(shared, route("a", "")))).forRoute("gone");
    expect(policy.decide(requestFrom("ann", "GET"))).toMatchObject({ kind: "deny", rule: "no rule" });
    expect(policy.mayReach(people.ann!, 0)).toBe(false);
    expect(policy.needsBody).toBe(false);
  });

  it("a policy without body inspection finds no body too large, even if Envoy still checks before the body", () => {
    const asked = { ...requestFrom("ann", "POST"), headers: { "content-length": "40" } };
    const [open, barred] = ["accept: true", "domain: partner.io"].map(
      (rule) => routeWith(`policy: {allow: {and: [{${rule}}]}}`).policy,
    );
    expect(open?.denyBeforeBody(asked)).toBeUndefined();
    expect(open?.decide(asked)).toMatchObject({ kind: "allow" });
    expect(barred?.denyBeforeBody(asked)).toMatchObject({ status: 403, reason: "not_allowed" });
  });

  it("is compiled once for each loaded configuration", () => {
    let config = loadPolicies(file(shared, route("a", "")));
    const policies = createCurrentPolicies(() => createRouteTable(config));
    const before = policies();
    expect(policies()).toBe(before);
    config = loadPolicies(file("", route("a", "")));
    const id = config.routes[0]!.id;
    expect(before.forRoute(id).decide(requestFrom("ann", "GET")).kind).toBe("allow");
    expect(policies().forRoute(id).decide(requestFrom("ann", "GET")).kind).toBe("deny");
  });
});

describe("a policy that cannot be evaluated denies all requests", () => {
  const accept: PolicyNode = { op: "criterion", criterion: "accept", matcher: { kind: "always" } };
  const good = routeWith("policy: {allow: {and: [{accept: true}]}}").route;
  const withDeny = (when: PolicyNode): Route => ({
    ...good,
    policy: [
      { action: "allow", name: "everybody", when: accept },
      { action: "deny", name: "broken", when },
    ],
  });
  const email = (matcher: Extract<PolicyNode, { op: "criterion" }>["matcher"]): PolicyNode => ({
    op: "criterion",
    criterion: "email",
    matcher,
  });

  it.each<[string, PolicyNode]>([
    ["an unknown criterion", { ...accept, criterion: "device" }],
    ["an operator without criteria", { op: "and", nodes: [] }],
    ["an unknown operator", JSON.parse('{"op":"xor","nodes":[]}')],
    ["no matcher", email({ kind: "always" })],
    ["a matcher without operators", email({ kind: "all", matchers: [] })],
    ["an empty part", email({ kind: "contains", value: "" })],
    ["before on a string", email({ kind: "before", value: "x" })],
    ["a value for accept", { op: "criterion", criterion: "accept", matcher: { kind: "is", value: true } }],
    ["a claim without a name", { op: "criterion", criterion: "claim", matcher: { kind: "is", value: "x" } }],
    ["an invalid date", { op: "criterion", criterion: "date", matcher: { kind: "after", value: "soon" } }],
    [
      "a string matcher on a date",
      { op: "criterion", criterion: "date", matcher: { kind: "is", value: "2026-01-01" } },
    ],
    [
      "an invalid time",
      { op: "criterion", criterion: "time_of_day", matcher: { kind: "after", value: "25:00" } },
    ],
    [
      "a 12-hour time without AM or PM",
      { op: "criterion", criterion: "time_of_day", matcher: { kind: "after", value: "13 PM" } },
    ],
    [
      "an invalid time zone",
      {
        op: "criterion",
        criterion: "time_of_day",
        timezone: "Mars",
        matcher: { kind: "after", value: "12:00" },
      },
    ],
    [
      "an invalid address",
      { op: "criterion", criterion: "source_ip", matcher: { kind: "in", values: ["10.1"] } },
    ],
    [
      "a string matcher on an address",
      { op: "criterion", criterion: "source_ip", matcher: { kind: "contains", value: "10" } },
    ],
    [
      "a broken part deep inside",
      { op: "not", nodes: [{ op: "or", nodes: [accept, email({ kind: "always" })] }] },
    ],
  ])("%s denies all requests of the route and is reported", (_, when) => {
    const table = compilePolicies({ routes: [withDeny(when), { ...good, id: "other" }] });
    expect(table.forRoute(good.id).decide(requestFrom("ann", "GET"))).toMatchObject({ kind: "deny" });
    expect(table.forRoute("other").decide(requestFrom("ann", "GET"))).toMatchObject({ kind: "allow" });
    expect(table.problems).toMatchObject([{ routeId: good.id, rule: "broken" }]);
  });

  it("an invalid top-level policy is reported once and denies all requests of its routes", () => {
    const policy = withDeny({ op: "and", nodes: [] }).policy!;
    const table = compilePolicies({
      policy,
      routes: [
        { ...good, policy },
        { ...good, id: "b", policy: undefined },
      ],
    });
    expect(table.problems).toHaveLength(1);
    expect(table.forRoute("b").decide(requestFrom("ann", "GET"))).toMatchObject({ kind: "deny" });
  });

  it("a claim that throws when it is read", () => {
    const { policy } = routeWith("policy: {allow: {or: [{claim/trap/door: x}, {accept: true}]}}");
    const trap = new Proxy(
      {},
      {
        getOwnPropertyDescriptor() {
          throw new Error("boom");
        },
      },
    );
    const caller = { ...people.ann!, claims: trap };
    expect(policy.decide({ ...requestFrom("ann", "GET"), caller })).toMatchObject({
      kind: "deny",
      rule: "no rule",
      reason: "policy_error",
      status: 403,
    });
    expect(policy.mayReach(caller, 0)).toBe(false);
  });
});

describe("not and nor over several conditions, as in Pomerium", () => {
  const group = (value: string): PolicyNode => ({
    op: "criterion",
    criterion: "groups",
    matcher: { kind: "has", value },
  });
  const { route: any } = routeWith("policy: {allow: {and: [{accept: true}]}}");
  it.each([
    ["not", "ann", false],
    ["not", "cam", true],
    ["nor", "ann", true],
    ["nor", "bob", false],
  ] as const)("%s: %s -> %s", (op, who, allowed) => {
    const when: PolicyNode = { op, nodes: [group("analysts"), group("contractors")] };
    const served = { ...any, policy: [{ action: "allow", name: "x", when } as const] };
    const { kind } = compilePolicies({ routes: [served] })
      .forRoute(any.id)
      .decide(requestFrom(who, "GET"));
    expect(kind).toBe(allowed ? "allow" : "deny");
  });
});

describe("which routes a person may reach", () => {
  it.each([
    ["nobody", "", "ann", false],
    ["by who", "policy: {allow: {and: [{domain: example.com}]}}", "ann", true],
    ["by who, refused", "policy: {allow: {and: [{domain: example.com}]}}", "bob", false],
    [
      "by facts of the request",
      "policy: {allow: {and: [{http_method: POST}, {source_ip: 10.0.0.0/8}]}}",
      "ann",
      true,
    ],
    ["by a tool", "policy: {allow: {and: [{mcp_tool: query}]}}", "ann", true],
    [
      "denied for some tools",
      "policy:\n  allow: {and: [{accept: true}]}\n  deny: {and: [{mcp_tool: x}]}",
      "ann",
      true,
    ],
    [
      "denied altogether",
      "policy:\n  allow: {and: [{accept: true}]}\n  deny: {or: [{groups: contractors}, {mcp_tool: x}]}",
      "bob",
      false,
    ],
    ["not before a date", "policy: {allow: {and: [{date: {after: 2027-01-01}}]}}", "ann", false],
  ])("%s", (_, lines, who, reachable) => {
    expect(routeWith(lines).policy.mayReach(people[who]!, Date.parse("2026-06-01"))).toBe(reachable);
  });
});

describe("warnings", () => {
  const warned = (lines: string) =>
    policyWarnings({ routes: [routeWith(lines).route] }).map(({ message }) => message);

  it("mcp_tool under allow, which denies even initialize", () => {
    expect(warned("policy: {allow: {and: [{domain: a.b}, {mcp_tool: query}]}}")).toEqual([
      "routes[0].policy.allow.and: it allows only tool calls, not initialize or tools/list; put mcp_tool under deny",
    ]);
  });
  it("mcp_tool under deny and not, which denies initialize", () => {
    expect(warned("policy:\n  allow: {and: [{accept: true}]}\n  deny: {not: [{mcp_tool: query}]}")).toEqual([
      "routes[0].policy.deny.not: it also denies initialize and tools/list; use mcp_tool with not_in instead of not",
    ]);
  });
  it("a policy that allows nothing", () => {
    expect(warned("policy: {deny: {and: [{email: a@b.c}]}}")).toEqual([
      "there is no allow rule: nobody may use this route",
    ]);
  });
  it("none for valid policies", () => {
    expect(
      warned("policy:\n  allow: {and: [{accept: true}]}\n  deny: {and: [{mcp_tool: {not_in: [a]}}]}"),
    ).toEqual([]);
    expect(
      warned("policy:\n  allow: {or: [{mcp_tool: a}, {groups: b}]}\n  deny: {or: [{reject: true}]}"),
    ).toEqual([]);
  });
  it("the top-level policy once", () => {
    const config = loadPolicies(
      file("policy: {allow: {and: [{mcp_tool: a}]}}\n", route("a", ""), route("b", "")),
    );
    expect(policyWarnings(config)).toMatchObject([{ message: expect.stringContaining("policy.allow.and") }]);
  });
});
