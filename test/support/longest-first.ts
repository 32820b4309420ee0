import { BaseSequencer, type TestSpecification } from "vitest/node";

/**
 * What takes longest, longest first: begun last, it would run alone at the end. Vitest orders by what it measured itself, which on
 * a fresh clone is nothing; the rest is left to it. Those that share processes come last, one after the other: each goes on in the
 * process of the one before.
 */
const longest = [
  "system/faults/faults",
  "system/e2e/demo",
  "compatibility/catalog",
  "compatibility/tokens",
  "system/clients/other-clients",
  "store/encryption-at-rest",
  "cli/operator-commands",
  "attacks/slow-clients",
  "system/browser/pages",
  "attacks/neighbour-holds-our-ports",
  "store/earlier-versions",
  "compatibility/public-reports",
  "compatibility/discovery",
  "attacks/claims-that-policy-reads",
  "attacks/planted-session-connects",
  "store/migrations",
  "docs/quickstart",
  "system/clients/inspector",
  "system/clients/mcp-remote",
];

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ moduleId, project }: TestSpecification) => {
      const index = longest.findIndex((name) => moduleId.endsWith(`/test/${name}.test.ts`));
      if (index >= 0) return index;
      return project.name === "sharing" ? longest.length + 1 : longest.length;
    };
    return (await super.sort(files)).toSorted((one, other) => place(one) - place(other));
  }
}
