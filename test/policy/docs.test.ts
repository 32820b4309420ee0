import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { policyVocabulary } from "../../src/config/policy-vocabulary.ts";
import { jsonRpcDenialBody } from "../../src/policy/policy.ts";
import { lookalikes } from "./lookalikes.ts";
import { people } from "./people.ts";
import { requestFrom } from "./request-from.ts";
import { routeWith } from "./route-with.ts";

const page = readFileSync(new URL("../../docs/policy.md", import.meta.url), "utf8");
const cells = (line: string) =>
  line
    .split("|")
    .slice(1, -1)
    .map((cell) => cell.trim());
const examples = [
  ...page.matchAll(
    /```yaml\n(.*?)```\n(?:\n\| who \| request \| answer \|\n\|[-|]+\|\n((?:\|[^\n]*\|\n)+))?/gs,
  ),
].map(([, yaml = "", table = ""]) => ({ yaml, rows: table.split("\n").filter(Boolean).map(cells) }));

describe("docs/policy.md", () => {
  it("shows the results of each example", () => {
    expect(examples.length).toBeGreaterThanOrEqual(8);
    expect(examples.filter(({ rows }) => rows.length === 0)).toEqual([]);
  });

  for (const { yaml, rows } of examples) {
    const { policy } = routeWith(yaml.trimEnd());
    it.each(rows)("%s: %s -> %s", (who = "", request = "", answer) => {
      const { kind } = policy.decide(requestFrom(who, request));
      expect({ allow: "allow", deny: "deny", deny_call: "error" }[kind]).toBe(answer);
    });
  }

  it("lists the callers of the tests", () => {
    const table = /\| who \| user id .*\n\|.*\n((?:\|.*\|\n)+)/.exec(page)?.[1] ?? "";
    const rows = table.split("\n").filter(Boolean).map(cells);
    expect(rows.length).toBe(5);
    for (const [who = "", userId, email = "", groups = ""] of rows) {
      const person = people[who];
      expect([person?.userId, person?.email ?? "", person?.groups.join(", ")]).toEqual([
        userId,
        email,
        groups,
      ]);
    }
  });

  it("shows the error as it is sent", () => {
    const { policy } = routeWith("policy: {allow: {and: [{accept: true}]}}\ntools: {deny: [delete_user]}");
    const decision = policy.decide(requestFrom("ann", "call delete_user"));
    const shown = /```json\n(.*?)```/s.exec(page)?.[1] ?? "";
    expect(decision.kind === "deny_call" && JSON.parse(jsonRpcDenialBody(decision, "req-7"))).toEqual(
      JSON.parse(shown),
    );
  });

  it("names every criterion and every reason for rejecting a body", () => {
    for (const criterion of Object.keys(policyVocabulary))
      expect(page).toMatch(new RegExp(`^\\| \`${criterion}\\b`, "m"));
    for (const { reason } of lookalikes) expect(page).toContain(`\`${reason}\``);
  });
});
