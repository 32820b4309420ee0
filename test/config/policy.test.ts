import { describe, expect, it } from "vitest";
import { policyVocabulary } from "../../src/config/policy-vocabulary.ts";
import type { PolicyNode } from "../../src/model/route.ts";
import { compilePolicies } from "../../src/policy/route-policy.ts";
import { load } from "./load.ts";
import { problemsOf } from "./problems-of.ts";

const routeWith = (policy: string) =>
  `\n  - {from: https://h.example.com, to: http://x, mcp: {}, policy: ${policy}}`;
const rulesOf = (policy: string) => load(routeWith(policy)).config.routes[0]?.policy;
const nodeOf = (criterion: string) => rulesOf(`{allow: {or: [${criterion}]}}`)?.[0]?.when;
const is = (criterion: string, value: string): PolicyNode => ({
  op: "criterion",
  criterion,
  matcher: { kind: "is", value },
});
const not = (node: PolicyNode): PolicyNode => ({ op: "not", nodes: [node] });
const problem = (policy: string) =>
  problemsOf(
    `issuer: https://a.example.com\nsign_in: {providers: [{issuer: https://i.example.com, client_id: c}]}\nroutes:\n  - from: https://h.example.com\n    to: http://x\n    mcp: {}\n    policy:\n      ${policy}\n`,
  ).join("\n");

describe("policy language", () => {
  it("parses a rule, a list of rules, and several operators as alternatives, each named by its path", () => {
    const a = is("email", "a@example.com");
    expect(rulesOf("{allow: {and: [{email: a@example.com}]}}")).toEqual([
      { action: "allow", name: "routes[0].policy.allow.and", when: { op: "and", nodes: [a] } },
    ]);
    expect(
      rulesOf(
        "[{allow: {or: [{email: a@example.com}]}}, {deny: {or: [{user: u}], and: [{domain: {is: x.com}}]}}]",
      ),
    ).toEqual([
      { action: "allow", name: "routes[0].policy[0].allow.or", when: { op: "or", nodes: [a] } },
      { action: "deny", name: "routes[0].policy[1].deny.or", when: { op: "or", nodes: [is("user", "u")] } },
      {
        action: "deny",
        name: "routes[0].policy[1].deny.and",
        when: { op: "and", nodes: [is("domain", "x.com")] },
      },
    ]);
  });

  it("parses not as none and nor as not all, as Pomerium does", () => {
    const [a, b] = [is("user", "a"), is("user", "b")];
    expect(rulesOf("{allow: {not: [{user: a}, {user: b}]}}")?.[0]?.when).toEqual({
      op: "and",
      nodes: [not(a), not(b)],
    });
    expect(rulesOf("{allow: {nor: [{user: a}, {user: b}]}}")?.[0]?.when).toEqual({
      op: "or",
      nodes: [not(a), not(b)],
    });
  });

  it("nests operators", () => {
    expect(nodeOf("{and: [{user: a}, {not: [{user: b}]}]}")).toEqual({
      op: "or",
      nodes: [{ op: "and", nodes: [is("user", "a"), { op: "and", nodes: [not(is("user", "b"))] }] }],
    });
  });

  it.each([
    ["accept: true", { criterion: "accept", matcher: { kind: "always" } }],
    ["authenticated_user: 1", { criterion: "authenticated_user", matcher: { kind: "always" } }],
    ["email: {starts_with: admin@}", { matcher: { kind: "starts_with", value: "admin@" } }],
    ["email: [a@x.com, b@x.com]", { matcher: { kind: "in", values: ["a@x.com", "b@x.com"] } }],
    ["mcp_tool: {not_in: [q, r]}", { matcher: { kind: "not_in", values: ["q", "r"] } }],
    ["mcp_tool: {not: q}", { matcher: { kind: "not_in", values: ["q"] } }],
    [
      "email: {starts_with: a, ends_with: b}",
      {
        matcher: {
          kind: "all",
          matchers: [
            { kind: "starts_with", value: "a" },
            { kind: "ends_with", value: "b" },
          ],
        },
      },
    ],
    ["groups: admins", { matcher: { kind: "has", value: "admins" } }],
    ["groups: {in: [a, b]}", { matcher: { kind: "in", values: ["a", "b"] } }],
    [
      "claim/realm/role: x",
      { criterion: "claim", claim: "realm/role", matcher: { kind: "has", value: "x" } },
    ],
    ["claim/level: 3", { criterion: "claim", claim: "level", matcher: { kind: "has", value: 3 } }],
    ["source_ip: 10.0.0.0/8", { matcher: { kind: "in", values: ["10.0.0.0/8"] } }],
    ["source_ip: ['::1', 10.1.1.1]", { matcher: { kind: "in", values: ["::1", "10.1.1.1"] } }],
    ["date: {after: 2020-01-02T16:20:00}", { matcher: { kind: "after", value: "2020-01-02T16:20:00.000Z" } }],
    [
      "time_of_day: {timezone: UTC, after: '2:20:00', before: 4:30PM}",
      {
        timezone: "UTC",
        matcher: {
          kind: "all",
          matchers: [
            { kind: "after", value: "02:20:00" },
            { kind: "before", value: "16:30:00" },
          ],
        },
      },
    ],
  ])("parses %s", (criterion, expected) => {
    expect(nodeOf(`{${criterion}}`)).toMatchObject({ op: "or", nodes: [{ op: "criterion", ...expected }] });
  });

  it("parses exclude and reject as negations", () => {
    expect(nodeOf("{groups: {exclude: interns}}")).toEqual({
      op: "or",
      nodes: [not({ op: "criterion", criterion: "groups", matcher: { kind: "has", value: "interns" } })],
    });
    expect(nodeOf("{reject: true}")).toEqual({
      op: "or",
      nodes: [not({ op: "criterion", criterion: "accept", matcher: { kind: "always" } })],
    });
  });

  it.each([
    [
      "permit: {or: [{accept: true}]}",
      '8:7 error routes[0].policy.permit: unknown action "permit" -> write allow or deny',
    ],
    ["allow: {xor: [{accept: true}]}", '8:15 error routes[0].policy.allow.xor: unknown operator "xor"'],
    ["allow: {and: []}", "routes[0].policy.allow.and: and needs a list of criteria"],
    ["allow: {and: {email: a}}", "and needs a list of criteria"],
    ["allow: {}", "allow needs an operator"],
    ["{}", "the rule is empty"],
    ["[]", "the policy is empty"],
    ["allow", "a policy rule must be a mapping"],
    ["", "a policy rule must be a mapping"],
    [
      "allow: {or: [{group: a}]}",
      '8:21 error routes[0].policy.allow.or[0].group: unknown criterion "group" -> did you mean groups?',
    ],
    ["allow: {or: [{constructor: a}]}", 'unknown criterion "constructor"'],
    ["allow: {or: [{client_certificate: {}}]}", "check client certificates in Envoy"],
    ["allow: {or: [{email: a, user: b}]}", "a criterion must have exactly one key"],
    [
      "allow: {or: [{email: {start_with: a}}]}",
      '8:29 error routes[0].policy.allow.or[0].email.start_with: unknown matcher "start_with" for email -> did you mean starts_with?',
    ],
    ["allow: {or: [{email: {}}]}", "email has no matcher"],
    ["allow: {or: [{email: }]}", "is needs one value"],
    ["allow: {or: [{email: ''}]}", "matches nobody"],
    ["allow: {or: [{email: {contains: ''}}]}", "matches everything"],
    ["allow: {or: [{email: {in: a}}]}", "in needs a list of values"],
    ["allow: {or: [{groups: [a, b]}]}", "(several: in: [a, b])"],
    ["allow: {or: [{claim: a}]}", "claim needs a claim name"],
    ["allow: {or: [{email/x: a}]}", "email does not take /x"],
    ["allow: {or: [{source_ip: 10.1}]}", "is not an IP address"],
    ["allow: {or: [{date: 2020-01-01}]}", "date needs before or after"],
    ["allow: {or: [{date: {after: yesterday}}]}", '"yesterday" is not a date'],
    ["allow: {or: [{time_of_day: {after: '10:00'}}]}", "time_of_day needs a timezone"],
    ["allow: {or: [{time_of_day: {timezone: Mars/Base, after: '10:00'}}]}", "is not a time zone"],
    ["allow: {or: [{time_of_day: {timezone: UTC, after: '25:00'}}]}", "is not a time"],
  ])("rejects %s at its position", (policy, expected) => {
    expect(problem(policy)).toContain(expected);
  });

  it("applies the top-level policy to routes without one, and supports Pomerium's older lists", () => {
    const { config } = load(`
  - {from: https://a.example.com, to: http://x, mcp: {}}
  - {from: https://b.example.com, to: http://x, mcp: {}, allowed_users: [u], allowed_domains: [x.com], allowed_idp_claims: {team: [t]}}
  - {from: https://c.example.com, to: http://x, mcp: {}, allowed_domains: []}
  - {from: https://d.example.com, to: http://x, mcp: {}, allow_any_authenticated_user: true, policy: {deny: {or: [{user: u}]}}}`);
    const names = config.routes.map((route) => route.policy?.map(({ name }) => name));
    expect(names).toEqual([
      ["policy.allow.or"],
      ["routes[1].allowed_domains", "routes[1].allowed_users", "routes[1].allowed_idp_claims"],
      ["routes[2].allowed_domains"],
      ["routes[3].allow_any_authenticated_user", "routes[3].policy.deny.or"],
    ]);
    expect(config.routes[2]?.policy?.[0]?.when).toEqual(
      not({ op: "criterion", criterion: "accept", matcher: { kind: "always" } }),
    );
  });

  it("produces only what the compiler accepts: every criterion with every matcher", () => {
    const operand: Record<string, string> = { in: "[a, b]", not_in: "[a, b]" };
    const criteria = Object.entries(policyVocabulary).flatMap(([name, words]) => {
      const key = name === "claim" ? "claim/team" : name;
      if (words.operandType === "none") return [`${key}: true`];
      if (words.operandType === "address") return [`${key}: [10.0.0.0/8, '::1']`];
      if (words.operandType === "date") return [`${key}: {after: 2020-01-01, before: 2030-01-01T00:00:00Z}`];
      if (words.operandType === "time")
        return [`${key}: {timezone: Europe/Berlin, after: '8:00', before: 6PM}`];
      return words.matchers.map((word) => `${key}: {${word}: ${operand[word] ?? "a"}}`);
    });
    const { config } = load(
      criteria
        .map(
          (criterion, index) =>
            `\n  - {from: https://h${index}.example.com, to: http://x, mcp: {}, policy: {allow: {or: [{${criterion}}]}}}`,
        )
        .join(""),
    );
    expect(config.routes).toHaveLength(criteria.length);
    expect(compilePolicies(config).problems).toEqual([]);
  });
});
