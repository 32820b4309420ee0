import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { root } from "./build.ts";

/** What must agree in a release. */
export interface ReleaseFiles {
  readonly manifest: string;
  readonly chart: string;
  readonly changelog: string;
  /** The tag that is released; absent: only a check. */
  readonly tag?: string;
}

/** @returns what contradicts package.json's version; empty: everything agrees */
export function versionProblems({ manifest, chart, changelog, tag }: ReleaseFiles): readonly string[] {
  const { version, repository } = JSON.parse(manifest);
  const { version: chartVersion, appVersion } = parse(chart);
  const [newest = ""] = /^## .+$/m.exec(changelog) ?? [];
  const problems: string[] = [];
  const differs = (what: string, found: unknown) => {
    if (found !== version) problems.push(`${what} is ${found}, and package.json has ${version}`);
  };
  differs("version of Chart.yaml", chartVersion);
  differs("appVersion of Chart.yaml", appVersion);
  const released = newest.startsWith(`## ${version}`);
  if (tag === undefined) {
    if (!released && newest !== "## Unreleased")
      problems.push(
        `the newest section of CHANGELOG.md is "${newest}", neither "## Unreleased" nor "## ${version}"`,
      );
    return problems;
  }
  if (!released) problems.push(`CHANGELOG.md does not begin with "## ${version}": rename "## Unreleased"`);
  if (tag !== `v${version}`) problems.push(`the tag is ${tag}, and package.json has ${version}`);
  if (JSON.stringify(repository).includes("OWNER"))
    problems.push("package.json still has the placeholder OWNER (CONTRIBUTING.md)");
  return problems;
}

/** The files of this checkout, and the tag that GitHub releases. */
export function releaseFiles(env: NodeJS.ProcessEnv = process.env): ReleaseFiles {
  const read = (file: string) => readFileSync(join(root, file), "utf8");
  return {
    manifest: read("package.json"),
    chart: read("deploy/helm/envoy-mcp-auth/Chart.yaml"),
    changelog: read("CHANGELOG.md"),
    tag: env.GITHUB_REF_TYPE === "tag" ? env.GITHUB_REF_NAME : undefined,
  };
}

// npm runs this before it publishes a checkout, but not before it publishes the release workflow's package.
if (import.meta.main) {
  process.stderr.write("only .github/workflows/release.yml publishes, after make release-check has passed\n");
  process.exitCode = 1;
}
