import { BaseSequencer, type TestSpecification } from "vitest/node";

/**
 * What takes longest, longest first: begun last, it would run alone at the end. Vitest orders by what it measured itself, which on
 * a fresh clone is nothing; the rest is left to it. Those that share processes come last, one after the other: they fill the end.
 */
const longest = [
  "faults/faults",
  "attacks/slow-strangers",
  "real-clients/other-clients",
  "e2e/demo",
  "compatibility/zoo",
  "store/earlier-versions",
  "compatibility/tokens",
  "browser/pages",
  "compatibility/public-reports",
  "compatibility/discovery",
  "real-clients/mcp-remote",
  "real-clients/inspector",
  "store/encryption-at-rest",
  "check/guarded-door",
  "admin/operator-commands",
  "docs/quickstart",
  "attacks/planted-session-connects",
  "fuzz/fuzz",
  "store/row-macs",
];

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ moduleId, project }: TestSpecification) => {
      if (project.name === "sharing") return longest.length + 1;
      const index = longest.findIndex((name) => moduleId.endsWith(`/test/${name}.test.ts`));
      return index < 0 ? longest.length : index;
    };
    return (await super.sort(files)).toSorted((one, other) => place(one) - place(other));
  }
}
