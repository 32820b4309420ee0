import { expect, test } from "vitest";
import type { PolicyNode } from "../../src/model/route.ts";
import { compileCriterion, type PolicyFacts } from "../../src/policy/criteria.ts";

type Criterion = Extract<PolicyNode, { op: "criterion" }>;

/** A list that counts reads of its elements. */
function counted(list: readonly string[]): { list: string[]; reads(): number } {
  let reads = 0;
  const get = (target: string[], name: string | symbol) => {
    reads += 1;
    return Reflect.get(target, name);
  };
  return { list: new Proxy([...list], { get }), reads: () => reads };
}

/** A provider's claims are read on every call of a person, in the single thread that serves all. */
test.each<[string, Criterion]>([
  ["groups", { op: "criterion", criterion: "groups", matcher: { kind: "in", values: ["admins", "last"] } }],
  [
    "a claim",
    { op: "criterion", criterion: "claim", claim: "roles", matcher: { kind: "has", value: "last" } },
  ],
])(
  "a partner's provider reports a hundred thousand values of %s: they are searched once",
  (_what, criterion) => {
    const judge = compileCriterion(criterion, "allow", false);
    const names = Array.from({ length: 100_000 }, (_, index) => `g${index}`);
    const facts = (values: string[]) =>
      ({
        caller: { userId: "partner/m", groups: values, claims: { roles: values } },
      }) as unknown as PolicyFacts;
    const his = counted([...names, "last"]);
    expect(judge(facts(his.list))).toBe(2);
    const first = his.reads();
    for (let check = 0; check < 100; check++) expect(judge(facts(his.list))).toBe(2);
    expect(his.reads() - first).toBeLessThan(1000);
    // A different list belongs to another person, or to the same person after a change.
    expect(judge(facts(counted(names).list))).toBe(0);
    expect(judge(facts(["last"]))).toBe(2);
  },
);
