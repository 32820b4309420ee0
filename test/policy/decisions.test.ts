import { describe, expect, it } from "vitest";
import { requestFrom } from "./request-from.ts";
import { routeWith } from "./route-with.ts";
import { scenarios } from "./scenarios.ts";

/** `who | request | allow, deny or refuse | deciding rule`, the rule without the route's own `routes[0].policy`. */
const rows = Object.entries(scenarios).map(([title, { route, table }]) => ({
  title,
  route,
  rows: table
    .trim()
    .split("\n")
    .map((line) => line.split("|").map((cell) => cell.trim()) as [string, string, string, string]),
}));

describe("policy: who may call what, and which rule says so", () => {
  for (const scenario of rows) {
    describe(scenario.title, () => {
      const { policy } = routeWith(scenario.route);
      it.each(scenario.rows)("%s: %s -> %s by %s", (who, request, expected, rule) => {
        const decision = policy.decide(requestFrom(who, request));
        const said = { allow: "allow", deny: "deny", deny_call: "refuse" }[decision.kind];
        expect([said, decision.rule.replace("routes[0].policy", "")]).toEqual([expected, rule]);
      });
    });
  }

  it("has at least 120 rows", () => {
    expect(rows.flatMap((scenario) => scenario.rows).length).toBeGreaterThanOrEqual(120);
  });
});
