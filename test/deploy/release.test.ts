import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { z } from "zod";
import { releaseFiles, versionProblems } from "../../dev/release/versions.ts";

const root = join(import.meta.dirname, "../..");
const text = readFileSync(join(root, ".github/workflows/release.yml"), "utf8");
const step = z.union([
  z.strictObject({
    // A tag can move.
    uses: z.string().regex(/^[\w-]+\/[\w-]+@[0-9a-f]{40}$/),
    with: z.record(z.string(), z.unknown()).optional(),
  }),
  z.strictObject({
    run: z.string(),
    id: z.string().optional(),
    env: z.record(z.string(), z.string()).optional(),
  }),
]);
const access = z.enum(["read", "write"]);
const { on, permissions, jobs } = z
  .object({
    on: z.unknown(),
    permissions: z.record(z.string(), access),
    jobs: z.record(
      z.string(),
      z.strictObject({
        needs: z.union([z.string(), z.array(z.string())]).optional(),
        strategy: z
          .object({ matrix: z.object({ include: z.array(z.record(z.string(), z.string())) }) })
          .optional(),
        "runs-on": z.string(),
        "timeout-minutes": z.int(),
        permissions: z.record(z.string(), access).optional(),
        steps: z.array(step),
      }),
    ),
  })
  .parse(parse(text));
const commands = (job: string) => (jobs[job]?.steps ?? []).flatMap((one) => ("run" in one ? [one.run] : []));

describe("the release workflow", () => {
  it("runs for version tags only, and pins actions by the commit of a release", () => {
    expect(on).toEqual({ push: { tags: ["v*"] } });
    const lines = text.split("\n").filter((line) => line.includes("uses:"));
    expect(lines.length).toBeGreaterThan(8);
    for (const line of lines) expect(line).toMatch(/@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
  });

  it("lets only the jobs that publish write, and each no more than it publishes", () => {
    expect(permissions).toEqual({ contents: "read" });
    expect(
      Object.entries(jobs).flatMap(([name, job]) => (job.permissions ? [[name, job.permissions]] : [])),
    ).toEqual([
      ["image", { contents: "read", packages: "write" }],
      ["publish", { contents: "write", packages: "write", "id-token": "write", attestations: "write" }],
    ]);
  });

  it("publishes after make check and make release-check have passed", () => {
    expect(commands("artifacts")).toEqual(["make check", "make release-check"]);
    expect(jobs.image?.needs).toBe("artifacts");
    expect(jobs.publish?.needs).toEqual(["artifacts", "executables", "image"]);
    const published = commands("publish").join("\n");
    for (const command of ["npm publish --provenance", "helm push", "imagetools create", "gh release create"])
      expect(published).toContain(command);
  });

  it("never writes a token into a command line", () => {
    for (const job of Object.keys(jobs))
      for (const command of commands(job)) expect(command).not.toMatch(/token \}\}|secrets\./);
  });
});

describe("the versions of a release", () => {
  const files = {
    manifest: JSON.stringify({
      version: "1.2.3",
      repository: { url: "git+https://github.com/someone/project.git" },
    }),
    chart: 'version: 1.2.3\nappVersion: "1.2.3"\n',
    changelog: "# Changelog\n\n## 1.2.3\n\n## 1.2.2\n",
    tag: "v1.2.3",
  };

  it("agree in this checkout", () => {
    expect(versionProblems({ ...releaseFiles({}), tag: undefined })).toEqual([]);
    expect(versionProblems(files)).toEqual([]);
  });

  it.each([
    ["the chart", { chart: 'version: 1.2.2\nappVersion: "1.2.3"\n' }, /version of Chart.yaml is 1.2.2/],
    [
      "the chart's application",
      { chart: "version: 1.2.3\nappVersion: 1.2.2\n" },
      /appVersion of Chart.yaml is 1.2.2/,
    ],
    ["the tag", { tag: "v1.2.4" }, /the tag is v1.2.4/],
    ["an unfinished changelog", { changelog: "## Unreleased\n" }, /rename "## Unreleased"/],
    ["an older changelog", { changelog: "## 1.2.2\n", tag: undefined }, /newest section/],
    [
      "the placeholder",
      {
        manifest: JSON.stringify({
          version: "1.2.3",
          repository: ["https://github.com", "OWNER", "x"].join("/"),
        }),
      },
      /still has the placeholder/,
    ],
  ])("contradict each other in %s", (_name, change, problem) => {
    expect(versionProblems({ ...files, ...change }).join("\n")).toMatch(problem);
  });
});
