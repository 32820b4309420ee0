import { BaseSequencer, type TestSpecification } from "vitest/node";

/**
 * The slowest test files, slowest first: started last, they would run alone at the end. Vitest orders the others by its own
 * measurements, of which a fresh clone has none. Files that share processes come last, one after the other: each continues in the
 * process of the previous one.
 */
const longest = [
  "system/platforms/envoy-gateway/envoy-gateway",
  "system/faults/faults",
  "system/e2e/demo",
  "system/platforms/bare-envoy",
  "system/fleet/fleet",
  "system/platforms/without-response-path",
  "deploy/package",
  "cli/startup-errors",
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
    const rank = ({ moduleId, project }: TestSpecification) => {
      const index = longest.findIndex((name) => moduleId.endsWith(`/test/${name}.test.ts`));
      if (index >= 0) return index;
      return project.name === "sharing" ? longest.length + 1 : longest.length;
    };
    return (await super.sort(files)).toSorted((one, other) => rank(one) - rank(other));
  }
}
