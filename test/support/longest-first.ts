import { BaseSequencer, type TestSpecification } from "vitest/node";

/**
 * What takes longest, longest first: begun last, it would run alone at the end. Vitest orders by what it measured itself, which on
 * a fresh clone is nothing; the rest is left to it.
 */
const longest = [
  "faults/faults",
  "attacks/slow-strangers",
  "real-clients/other-clients",
  "e2e/demo",
  "compatibility/zoo",
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
    const place = ({ moduleId }: TestSpecification) => {
      const index = longest.findIndex((name) => moduleId.endsWith(`/test/${name}.test.ts`));
      return index < 0 ? longest.length : index;
    };
    return (await super.sort(files)).toSorted((one, other) => place(one) - place(other));
  }
}
