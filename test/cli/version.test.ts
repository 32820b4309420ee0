import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";

const root = join(import.meta.dirname, "../..");
const { version }: { version: string } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

it.each(["--version", "-V"])("%s prints the version and needs no routes file", (flag) => {
  const asked = spawnSync(process.execPath, [join(root, "src/main.ts"), flag], {
    cwd: tmpdir(),
    encoding: "utf8",
  });
  expect(asked).toMatchObject({ status: 0, stdout: `${version}\n`, stderr: "" });
});
