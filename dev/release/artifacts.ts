import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { goTool } from "../go-tools.ts";
import { root } from "./build.ts";
import { executableName, makeExecutable, packExecutable } from "./executable.ts";
import { releaseFiles, versionProblems } from "./versions.ts";

const run = promisify(execFile);
const folder = join(root, "release");
const say = (line: string) => process.stdout.write(`${line}\n`);

/**
 * Makes everything that a release publishes in `release/`: the npm package, the executable for this machine, the software bill of
 * materials, the chart (if Helm is available), and their checksums.
 * @throws Error if versions contradict each other, or a step fails
 */
export async function makeArtifacts(): Promise<void> {
  const problems = versionProblems(releaseFiles());
  if (problems.length > 0) throw new Error(problems.join("\n"));
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder);
  // Also builds dist/, which the executable contains.
  const { stdout } = await run("npm", ["pack", "--silent", "--pack-destination", folder], { cwd: root });
  await renameWithKind(stdout.trim().split("\n").at(-1) ?? "", "npm");
  const unpacked = join(folder, await executableName());
  await makeExecutable(unpacked);
  await packExecutable(unpacked);
  await rm(unpacked, { recursive: true });
  await writeFile(join(folder, "sbom.cdx.json"), await billOfMaterials());
  const helm = await goTool("helm");
  if (helm) {
    await run(helm, ["package", join(root, "deploy/helm/envoy-mcp-auth"), "--destination", folder]);
    const [chart = ""] = (await readdir(folder)).filter((file) => /^envoy-mcp-auth-\d.*\.tgz$/.test(file));
    await renameWithKind(chart, "chart");
  } else say("not made: the chart; build Helm once with: node dev/go-tools.ts helm");
  const files = (await readdir(folder)).filter((file) => !file.endsWith(".sha256")).toSorted();
  const lines = files.map(
    (file) =>
      `${createHash("sha256")
        .update(readFileSync(join(folder, file)))
        .digest("hex")}  ${file}\n`,
  );
  await writeFile(join(folder, "SHA256SUMS"), lines.join(""));
  for (const file of files) say(`release/${file}`);
}

/** npm and Helm give their packages the same name. */
async function renameWithKind(file: string, kind: "npm" | "chart"): Promise<void> {
  await rename(join(folder, file), join(folder, file.replace("envoy-mcp-auth-", `envoy-mcp-auth-${kind}-`)));
}

/** Runtime dependencies as CycloneDX (`make sbom`). */
async function billOfMaterials(): Promise<string> {
  const options = { cwd: root, maxBuffer: 64 * 1024 * 1024 };
  const { stdout } = await run("npm", ["sbom", "--sbom-format", "cyclonedx", "--omit", "dev"], options);
  const { bomFormat, metadata } = JSON.parse(stdout);
  const { version } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
  if (bomFormat !== "CycloneDX" || metadata.component.version !== version)
    throw new Error("npm sbom did not describe this version");
  return stdout;
}

if (import.meta.main) {
  try {
    await makeArtifacts();
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
    process.exitCode = 1;
  }
}
