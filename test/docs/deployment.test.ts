import { execFile, spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { expect, it, onTestFinished } from "vitest";
import { checkConfig } from "../../src/cli/check-config.ts";

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
