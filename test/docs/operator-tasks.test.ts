import { spawnSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { type E2e, startE2e } from "../support/e2e.ts";

/* What pages tell an operator to paste, with a gateway that runs. */
const page = (name: string) => readFileSync(join(import.meta.dirname, "../../docs", name), "utf8");
function block(text: string, containing: string): string {
  const found = [...text.matchAll(/^```sh\n(.*?)^```$/gms)].find(([, one]) => one?.includes(containing))?.[1];
  if (found === undefined) throw new Error(`no block with ${containing}`);
  return found;
}

/** Runs a block in an empty folder with these programs in place of others. @returns the folder */
function runBlock(script: string, programs: Readonly<Record<string, string>> = {}): string {
  const folder = mkdtempSync(join(tmpdir(), "task-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  mkdirSync(join(folder, "bin"));
  for (const [name, text] of Object.entries(programs))
    writeFileSync(join(folder, "bin", name), `#!/bin/bash\n${text}\n`, { mode: 0o755 });
  const env = { ...process.env, PATH: `${join(folder, "bin")}:${process.env.PATH}` };
  const { status, stderr } = spawnSync("bash", ["-ec", script], { cwd: folder, env, encoding: "utf8" });
  expect([status, stderr]).toEqual([0, expect.not.stringMatching(/error|cannot/i)]);
  return folder;
}

let e2e: E2e;
beforeAll(async () => {
  const mayCall = { allow: { or: [{ user: "company/alice" }, { user: { is: "service-account/probe" } }] } };
  e2e = await startE2e({ config: (config) => ({ ...config, policy: [mayCall] }) });
});
afterAll(() => e2e?.close());

test.runIf(spawnSync("jq", ["--version"]).status === 0)(
  "security.md: what a leaked token says names the grant to revoke",
  async () => {
    const token = await e2e.externalToken("alice", e2e.urls.open);
    const script = block(page("security.md"), "grant_id, exp").replace(/^eyJ.*$/m, token);
    const said = JSON.parse(spawnSync("bash", ["-c", script], { encoding: "utf8" }).stdout);
    expect(said).toMatchObject({ sub: "company/alice", client_id: expect.any(String) });
    expect(await e2e.command("grants", "revoke", said.grant_id, "--reason", "leaked")).toContain(
      `revoked ${said.grant_id} of company/alice`,
    );
  },
);

test("troubleshooting.md: the call by hand, with the token of a service account, is answered by the server", async () => {
  const script = block(page("troubleshooting.md"), "service-accounts create probe");
  const [, ...create] =
    /^envoy-mcp-auth (service-accounts create \S+ --route) \S+ (.*?) +#/m.exec(script) ?? [];
  const [words = "", options = ""] = create;
  const printed = await e2e.command(...words.split(" "), "open", ...options.split(" "));
  const [token = ""] = /eyJ[\w-]+\.[\w-]+\.[\w-]+/.exec(printed) ?? [];
  const headers = Object.fromEntries(
    [...script.matchAll(/-H ['"]([\w-]+): (.*?)['"]/g)].map(([, name = "", value = ""]) => [name, value]),
  );
  const [, body = ""] = /-d '(.*?)'/s.exec(script) ?? [];
  const response = await e2e.fetch(e2e.urls.open, {
    method: "POST",
    headers: { ...headers, authorization: `Bearer ${token}` },
    body,
  });
  expect([response.status, await response.text()]).toEqual([200, expect.stringContaining("protocolVersion")]);
  await e2e.command("service-accounts", "revoke", "probe", "--reason", "tried");
});

test("admin-page.md: the certificate for Compose is for localhost and 127.0.0.1", () => {
  const folder = runBlock(block(page("admin-page.md"), "openssl req"));
  const certificate = new X509Certificate(readFileSync(join(folder, "admin-tls/tls.crt")));
  expect([certificate.checkHost("localhost"), certificate.checkIP("127.0.0.1")]).toEqual([
    "localhost",
    "127.0.0.1",
  ]);
  expect(certificate.validToDate.getTime()).toBeGreaterThan(Date.now() + 364 * 86_400_000);
  expect(readFileSync(join(folder, "admin-tls/tls.key"), "utf8")).toContain("PRIVATE KEY");
});

test("reliability.md: the second encryption key for the chart is a Secret's value of 32 bytes", () => {
  const folder = runBlock(block(page("reliability.md"), "encryption-key-2"), {
    kubectl: 'shift 5; printf "%s" "$2" > patch.json',
  });
  const { stringData } = JSON.parse(readFileSync(join(folder, "patch.json"), "utf8"));
  expect(Buffer.from(stringData["encryption-key-2"], "base64")).toHaveLength(32);
});

test("reliability.md: a build that is named by its commit is unpacked beside another of the same version", () => {
  const [folderOf, archive] = [
    "envoy-mcp-auth-0.1.0-linux-x64",
    "release/envoy-mcp-auth-0.1.0-linux-x64.tar.gz",
  ];
  const made = `mkdir -p release opt ${folderOf}/bin; touch ${folderOf}/bin/envoy-mcp-auth; ln -s bin/envoy-mcp-auth ${folderOf}/link; tar -czf ${archive} ${folderOf}`;
  const printed = block(page("reliability.md"), "--transform").replace("-C /opt", "-C opt");
  const folder = runBlock(`${made}\n${printed}`, {
    sudo: 'exec "$@"',
    git: "echo 1a2b3c4",
    docker: 'echo "$*" > docker.txt',
  });
  expect(existsSync(join(folder, "opt/envoy-mcp-auth-0.1.0-1a2b3c4/bin/envoy-mcp-auth"))).toBe(true);
  expect(existsSync(join(folder, "opt/envoy-mcp-auth-0.1.0-1a2b3c4/link"))).toBe(true);
  expect(readFileSync(join(folder, "docker.txt"), "utf8")).toContain("envoy-mcp-auth:0.1.0-1a2b3c4 .");
});
