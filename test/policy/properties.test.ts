import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { PolicyMatcher, PolicyNode, PolicyRule, Route } from "../../src/model/route.ts";
import type { PolicyInput, Subject } from "../../src/model/subject.ts";
import type { RoutePolicy } from "../../src/policy/policy.ts";
import { compilePolicies } from "../../src/policy/route-policy.ts";
import { readToolFilter } from "../../src/policy/tool-list-filter.ts";
import { readers } from "./readers.ts";
import { routeWith } from "./route-with.ts";

const { route } = routeWith("policy: {allow: {and: [{accept: true}]}}\ntools: {deny: []}");
const compiled = (policy: readonly PolicyRule[]): RoutePolicy => {
  const served: Route = { ...route, policy };
  return compilePolicies({ routes: [served] }).forRoute(route.id);
};

const word = fc.constantFrom("a", "b", "ab", "admin_x", "query", "drop_table", "example.com", "POST", "/mcp");
const leafMatcher: fc.Arbitrary<PolicyMatcher> = fc.oneof(
  fc.record({ kind: fc.constantFrom("is", "has", "starts_with", "ends_with", "contains"), value: word }),
  fc.record({ kind: fc.constantFrom("in", "not_in"), values: fc.array(word, { maxLength: 3 }) }),
);
const matcher: fc.Arbitrary<PolicyMatcher> = fc.oneof(
  { weight: 4, arbitrary: leafMatcher },
  fc.record({ kind: fc.constant("all"), matchers: fc.array(leafMatcher, { minLength: 1, maxLength: 3 }) }),
);
const about = (...criteria: string[]): fc.Arbitrary<PolicyNode> =>
  fc.record({
    op: fc.constant("criterion"),
    criterion: fc.constantFrom(...criteria),
    claim: fc.constantFrom("role", "a/b", "email"),
    matcher,
  });
const always: fc.Arbitrary<PolicyNode> = fc.constantFrom("accept", "authenticated_user").map((criterion) => ({
  op: "criterion",
  criterion,
  matcher: { kind: "always" },
}));
const nested = (leaf: fc.Arbitrary<PolicyNode>): fc.Arbitrary<PolicyNode> =>
  fc.letrec<{ node: PolicyNode }>((tie) => ({
    node: fc.oneof(
      { depthSize: "small", withCrossShrink: true },
      leaf,
      fc.record({
        op: fc.constantFrom("and", "or", "not", "nor"),
        nodes: fc.array(tie("node"), { minLength: 1, maxLength: 3 }),
      }),
    ),
  })).node;
const ofCaller = about("email", "domain", "groups", "claim");
const anything = nested(fc.oneof(ofCaller, about("user", "mcp_tool", "http_method", "http_path"), always));
const rule = (when: fc.Arbitrary<PolicyNode>): fc.Arbitrary<PolicyRule> =>
  fc.record({ action: fc.constantFrom("allow", "deny"), name: fc.string(), when });

const caller: fc.Arbitrary<Subject> = fc.record(
  {
    userId: word,
    email: fc.oneof(word, fc.string(), fc.constant("a@example.com")),
    groups: fc.array(fc.oneof(word, fc.string())),
    claims: fc.dictionary(fc.oneof(fc.constantFrom("role", "a", "email"), fc.string()), fc.anything()),
  },
  { requiredKeys: ["userId", "groups", "claims"] },
);
const message = fc.oneof(
  word.map((name) => ({ jsonrpc: "2.0", id: 1, method: "tools/call", params: { name } })),
  fc.constantFrom("initialize", "tools/list", "ping").map((method) => ({ jsonrpc: "2.0", id: "x", method })),
);
const body = fc.oneof(
  message.map((value) => Buffer.from(JSON.stringify(value))),
  fc.array(message).map((value) => Buffer.from(JSON.stringify(value))),
  fc.uint8Array().map((bytes) => Buffer.from(bytes)),
  fc.json().map((text) => Buffer.from(text)),
);
const input: fc.Arbitrary<PolicyInput> = fc.record(
  {
    caller,
    method: fc.oneof(fc.constant("POST"), fc.constantFrom("GET", "DELETE", "PUT"), fc.string()),
    path: fc.oneof(fc.constant("/mcp"), fc.string()),
    sourceIp: fc.oneof(fc.ipV4(), fc.ipV6(), fc.string()),
    now: fc.oneof(fc.integer(), fc.double()),
    headers: fc.oneof(
      fc.constant({ "content-type": "application/json" }),
      fc.dictionary(fc.constantFrom("content-type", "content-length", "mcp-name", "mcp-method"), fc.string()),
    ),
    body,
  },
  { requiredKeys: ["caller", "method", "path", "now", "headers"] },
);
/** Values that violate the types. */
const untyped = (value: unknown) => JSON.parse(JSON.stringify(value) ?? "null");

describe("for any policy and request", () => {
  it("the evaluator never throws, and returns one of three decisions", () => {
    const wild = fc.oneof(
      anything,
      fc.anything().map(untyped),
      fc
        .record({ op: fc.constant("criterion"), criterion: fc.string(), matcher: fc.anything() })
        .map(untyped),
      fc
        .record({
          op: fc.constant("criterion"),
          criterion: fc.constantFrom("date", "time_of_day", "source_ip", "claim"),
          timezone: fc.string(),
          matcher,
        })
        .map(untyped),
    );
    fc.assert(
      fc.property(fc.array(rule(wild), { maxLength: 4 }), input, (rules, request) => {
        const policy = compiled(rules);
        expect(["allow", "deny", "deny_call"]).toContain(policy.decide(request).kind);
        expect(policy.mayReach(request.caller, request.now)).toBeTypeOf("boolean");
      }),
      { numRuns: 1000 },
    );
  });

  it("the evaluator never throws, even for callers that violate the types", () => {
    fc.assert(
      fc.property(
        fc.array(rule(anything), { maxLength: 3 }),
        fc.anything(),
        input,
        (rules, anyCaller, request) => {
          const policy = compiled(rules);
          expect(["allow", "deny", "deny_call"]).toContain(
            policy.decide({ ...request, caller: untyped(anyCaller) }).kind,
          );
        },
      ),
    );
  });

  it("the default is deny: without an allow rule nothing is allowed", () => {
    fc.assert(
      fc.property(fc.array(rule(anything), { maxLength: 4 }), input, (rules, request) => {
        const policy = compiled(rules.map((each) => ({ ...each, action: "deny" })));
        expect(policy.decide(request).kind).not.toBe("allow");
        expect(policy.mayReach(request.caller, request.now)).toBe(false);
      }),
      { numRuns: 500 },
    );
  });

  it("unknown facts never allow a request, whatever not and nor surround them", () => {
    fc.assert(
      fc.property(nested(ofCaller), fc.constantFrom(undefined, ""), input, (when, email, request) => {
        const nothing: Subject = { userId: "x", email, groups: [], claims: { role: "", a: { b: [] } } };
        const policy = compiled([{ action: "allow", name: "only", when }]);
        expect(policy.decide({ ...request, caller: nothing }).kind).not.toBe("allow");
      }),
      { numRuns: 1000 },
    );
  });

  it("an additional deny rule never allows more", () => {
    fc.assert(
      fc.property(fc.array(rule(anything), { maxLength: 4 }), anything, input, (rules, when, request) => {
        const before = compiled(rules).decide(request).kind;
        const after = compiled([...rules, { action: "deny", name: "one more", when }]).decide(request).kind;
        if (after === "allow") expect(before).toBe("allow");
      }),
      { numRuns: 500 },
    );
  });

  it("a deny rule that matches everyone denies everything", () => {
    fc.assert(
      fc.property(fc.array(rule(anything), { maxLength: 4 }), always, input, (rules, when, request) => {
        expect(compiled([{ action: "deny", name: "all", when }, ...rules]).decide(request).kind).not.toBe(
          "allow",
        );
      }),
    );
  });

  it("a caller with an allowed request may reach the route", () => {
    fc.assert(
      fc.property(fc.array(rule(anything), { maxLength: 4 }), input, (rules, request) => {
        const policy = compiled(rules);
        if (policy.decide(request).kind === "allow") {
          expect(policy.mayReach(request.caller, request.now)).toBe(true);
        }
      }),
      { numRuns: 500 },
    );
  });

  it("a list shows exactly the allowed tools", () => {
    const post = (value: object): Pick<PolicyInput, "method" | "headers" | "body"> => ({
      method: "POST",
      headers: { "content-type": "application/json" },
      body: Buffer.from(JSON.stringify(value)),
    });
    const list = post({ jsonrpc: "2.0", id: 1, method: "tools/list" });
    let lists = 0;
    fc.assert(
      fc.property(fc.array(rule(anything), { maxLength: 5 }), input, word, (rules, request, name) => {
        const policy = compiled([
          ...rules,
          {
            action: "allow",
            name: "who",
            when: { op: "criterion", criterion: "accept", matcher: { kind: "always" } },
          },
        ]);
        const decision = policy.decide({ ...request, ...list });
        if (decision.kind !== "allow") return;
        lists += 1;
        const call = post({ jsonrpc: "2.0", id: 1, method: "tools/call", params: { name } });
        const mayCall = policy.decide({ ...request, ...call }).kind === "allow";
        expect(readToolFilter(decision.toolFilter ?? "true")(name)).toBe(mayCall);
      }),
      { numRuns: 1000 },
    );
    expect(lists).toBeGreaterThan(100);
  });
});

describe("no reader finds a forbidden call in an allowed body", () => {
  const { policy } = routeWith(
    "policy:\n  allow: {and: [{accept: true}]}\n  deny: {and: [{mcp_tool: {is: drop_table}}]}",
  );
  const passes = (bytes: Buffer) =>
    policy.decide({
      caller: { userId: "x", groups: [], claims: {} },
      method: "POST",
      path: "/",
      now: 0,
      headers: { "content-type": "application/json" },
      body: bytes,
    }).kind === "allow";
  /** Readers that no check of the body can cover: tool names are case-sensitive (MCP 2026-07-28), charsets come from headers. */
  const elsewhere = new Set(["values in lower case", "UTF-7", "UTF-16", "latin-1"]);
  const forbiddenTo = (bytes: Buffer) =>
    Object.entries(readers).filter(([name, read]) => {
      const headers = { "content-type": "application/json" };
      return (
        !elsewhere.has(name) &&
        /"tools\/call","drop_table"/.test(read({ method: "POST", headers, body: bytes }))
      );
    });

  const spelling = (name: string) =>
    fc.oneof(
      { weight: 12, arbitrary: fc.constant(name) },
      fc.constantFrom(
        name.toUpperCase(),
        `${name} `,
        `${name}\0`,
        `${name}\u200b`,
        name.replace("s", "ſ"),
        name.replace(/^./, (first) => String.fromCodePoint(first.charCodeAt(0) + 0xfee0)),
      ),
    );
  const member = (name: string, value: fc.Arbitrary<string>) =>
    fc.tuple(spelling(name), value).map(([key, text]) => `${JSON.stringify(key)}:${text}`);
  const text = (...values: string[]) => fc.constantFrom(...values.map((value) => JSON.stringify(value)));
  const object = (members: fc.Arbitrary<string>) =>
    fc.array(members, { maxLength: 4 }).map((parts) => `{${parts.join(",")}}`);
  const params = object(
    fc.oneof(
      member("name", text("query", "drop_table", "drop_table ", "ｄrop_table")),
      member("arguments", text("x")),
    ),
  );
  const call = fc
    .array(
      fc.oneof(
        member("method", text("tools/call", "tools/call", "ping", "tools/call ", "Tools/Call")),
        member("params", params),
        member("id", fc.constantFrom("1", "2", "null")),
      ),
      { minLength: 1, maxLength: 4 },
    )
    .map((parts) => `{"jsonrpc":"2.0",${parts.join(",")}}`);

  it("duplicated, misspelled and shuffled keys", () => {
    let passed = 0;
    fc.assert(
      fc.property(
        fc.oneof(
          call,
          fc.array(call, { maxLength: 3 }).map((all) => `[${all.join(",")}]`),
        ),
        (sent) => {
          const bytes = Buffer.from(sent);
          if (!passes(bytes)) return;
          passed += 1;
          expect(forbiddenTo(bytes)).toEqual([]);
        },
      ),
      { numRuns: 5000 },
    );
    expect(passed).toBeGreaterThan(50);
  });

  it("a forbidden call with changed, added and removed bytes", () => {
    const sent = Buffer.from('{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"drop_table"}}');
    const change = fc.record({
      at: fc.nat({ max: sent.length }),
      remove: fc.nat({ max: 2 }),
      insert: fc.uint8Array({ maxLength: 2 }),
    });
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), (changes) => {
        let bytes = sent;
        for (const { at, remove, insert } of changes) {
          bytes = Buffer.concat([bytes.subarray(0, at), insert, bytes.subarray(at + remove)]);
        }
        if (passes(bytes)) expect(forbiddenTo(bytes)).toEqual([]);
      }),
      { numRuns: 3000 },
    );
  });
});
