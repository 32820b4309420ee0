import { execFile, spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { expect, it, onTestFinished } from "vitest";
import { checkConfig } from "../../src/cli/check-config.ts";
import { manifestsIn } from "../deploy/manifests.ts";
import { validateManifest } from "../deploy/validate-manifest.ts";

const root = join(import.meta.dirname, "../..");
const page = readFileSync(join(root, "docs/deployment.md"), "utf8");
/** The blocks of one language, without the indentation of a list. */
const blocks = (language: string) =>
  [...page.matchAll(new RegExp(`^( *)\`\`\`${language}\\n(.*?)^\\1\`\`\`$`, "gms"))].map(
    ([, indent = "", text = ""]) => text.replaceAll(new RegExp(`^${indent}`, "gm"), ""),
  );
const tempFolder = async () => {
  const folder = await mkdtemp(join(tmpdir(), "deployment-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
};

it.runIf(spawnSync("systemd-analyze", ["--version"]).status === 0)(
  "systemd accepts the units for a virtual machine",
  async () => {
    const folder = await tempFolder();
    const units = blocks("ini").map((unit) => {
      const name = basename(/^# (\/etc\/systemd\/system\/\S+)$/m.exec(unit)?.[1] ?? "");
      // The programs need not be installed here.
      writeFileSync(join(folder, name), unit.replaceAll(/^(ExecStart(?:Pre)?=)\S+/gm, "$1/bin/true"));
      return join(folder, name);
    });
    expect(units.map((unit) => basename(unit))).toEqual(["envoy-mcp-auth.service", "mcp-envoy.service"]);
    const { stdout, stderr } = await promisify(execFile)("systemd-analyze", ["verify", ...units]);
    expect(stdout + stderr).toBe("");
  },
);

/** The functions of "Running commands", by what they call. */
const functions = blocks("sh").filter((one) => one.startsWith("envoy-mcp-auth() {"));

it("each function for running commands passes the arguments on, in a loop that reads its standard input, and the exit code", async () => {
  const folder = await tempFolder();
  // In place of sudo, docker and kubectl, which no test can run: writes its arguments, reads what it is given, ends as told.
  writeFileSync(join(folder, "fake"), 'echo "$(basename "$0") $*" >> "$CALLS"; cat; exit 3\n');
  for (const program of ["sudo", "docker", "kubectl"])
    writeFileSync(join(folder, program), `#!/bin/bash\n. ${join(folder, "fake")}\n`, { mode: 0o755 });
  const direct = functions.filter((one) => !one.includes("mcp-command"));
  const [script, calls] = [join(folder, "script"), join(folder, "calls")];
  for (const shellFunction of direct) {
    const loop =
      'printf "one\\ntwo words\\n" | while read -r name; do envoy-mcp-auth revoke "$name"; echo $?; done';
    writeFileSync(script, `${shellFunction}\n${loop}\n`);
    const env = { ...process.env, PATH: `${folder}:${process.env.PATH}`, CALLS: calls };
    expect((await promisify(execFile)("bash", [script], { env })).stdout).toBe("3\n3\n");
  }
  const lines = readFileSync(calls, "utf8").trim().split("\n");
  const called = (pattern: RegExp) => lines.filter((line) => pattern.test(line));
  expect(
    called(/^sudo systemd-run .* \/usr\/local\/bin\/envoy-mcp-auth revoke (one|two words)$/),
  ).toHaveLength(2);
  expect(called(/^docker compose run .* sidecar revoke (one|two words)$/)).toHaveLength(2);
  expect(called(/^kubectl -n mcp exec .* -- envoy-mcp-auth revoke (one|two words)$/)).toHaveLength(2);
  expect(lines).toHaveLength(6);
});

it.runIf(spawnSync("jq", ["--version"]).status === 0).each(["deployment.yaml", "sidecar.yaml"])(
  "without a replica of %s, a command runs in a pod with the image, variables and volumes of the Deployment",
  async (rendered) => {
    const folder = await tempFolder();
    const written = readFileSync(join(root, "deploy/kubernetes/rendered", rendered), "utf8");
    const deployment = Object(manifestsIn(written).find(({ kind }) => kind === "Deployment"));
    writeFileSync(join(folder, "deployment.json"), JSON.stringify(deployment));
    const kubectl = `#!/bin/bash
case "$*" in
  *"get deployment"*) cat deployment.json ;;
  *"create -f -"*) cat > pod.json ;;
  *"get pod"*) printf "%s" "$PHASE" ;;
  *logs*) echo "what it prints" ;;
  *delete*) touch deleted ;;
esac
`;
    writeFileSync(join(folder, "kubectl"), kubectl, { mode: 0o755 });
    const [inAPod = ""] = functions.filter((one) => one.includes("mcp-command"));
    const line = `${inAPod}\nenvoy-mcp-auth end-access --yes --reason "restored to yesterday" || echo "exit $?"`;
    const run = async (PHASE: string) => {
      const env = { ...process.env, PATH: `${folder}:${process.env.PATH}`, PHASE };
      return (await promisify(execFile)("bash", ["-c", line], { cwd: folder, env })).stdout;
    };
    expect(await run("Succeeded")).toBe("what it prints\n");
    expect(await run("Failed")).toBe("what it prints\nexit 1\n");
    expect(existsSync(join(folder, "deleted"))).toBe(true);
    const pod = JSON.parse(readFileSync(join(folder, "pod.json"), "utf8"));
    validateManifest(pod);
    const { containers, volumes } = deployment.spec.template.spec;
    const [{ image, env, volumeMounts, securityContext }] = containers;
    const args = ["end-access", "--yes", "--reason", "restored to yesterday"];
    expect(pod.spec.containers).toEqual([
      expect.objectContaining({ image, env, volumeMounts, securityContext, args }),
    ]);
    expect(pod.spec).toMatchObject({ restartPolicy: "Never", volumes });
    expect(JSON.stringify(pod)).not.toMatch(/Probe|initContainers/);
  },
);

it("the block for Compose's .env sets what compose.yaml requires, and its routes file is valid with these values", async () => {
  const folder = await tempFolder();
  const [block = ""] = blocks("sh").filter((one) => one.includes("cat > .env"));
  await promisify(execFile)("bash", ["-c", `set -e\n${block}`], { cwd: folder });
  const lines = readFileSync(join(folder, ".env"), "utf8").trim().split("\n");
  const values = Object.fromEntries(lines.map((line) => line.split(/=(.*)/s).slice(0, 2)));
  const compose = readFileSync(join(root, "deploy/compose/compose.yaml"), "utf8");
  const required = new Set([...compose.matchAll(/\$\{(\w+):\?/g)].map(([, name]) => name));
  expect(Object.keys(values).toSorted()).toEqual([...required].toSorted());
  const [, url = ""] = /DATABASE_URL: (\S+?)\$\{POSTGRES_PASSWORD/.exec(compose) ?? [];
  const env = { ...values, DATABASE_URL: `${url}${values.POSTGRES_PASSWORD}@postgres:5432/mcp` };
  const said: string[] = [];
  const say = (text: string) => void said.push(text);
  expect(checkConfig({ file: join(root, "deploy/compose/routes.yaml"), env, out: say, err: say })).toBe(0);
  expect(said.join("")).not.toContain("error:");
});
