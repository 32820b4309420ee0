import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type CertificateAuthority, certificateAuthority } from "../../dev/demo/certificate-authority.ts";
import { type ScriptedUpstream, scriptedUpstream } from "../upstream-oauth/scripted-upstream.ts";
import { alice, type OAuthClientStack, startOAuthClient } from "../upstream-oauth/start-oauth-client.ts";

describe("an upstream with a certificate of a private CA", () => {
  let folder: string;
  let authority: CertificateAuthority;
  let upstream: ScriptedUpstream;
  let stack: OAuthClientStack;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "authority-"));
    authority = await certificateAuthority(folder, ["files.internal"]);
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));
  beforeEach(async () => {
    const { certificate, key } = authority.files;
    upstream = await scriptedUpstream({
      key: await readFile(key, "utf8"),
      cert: await readFile(certificate, "utf8"),
    });
  });
  afterEach(async () => {
    await Promise.all([stack?.close(), upstream.close()]);
  });

  async function start(keys: string, settings = ""): Promise<void> {
    stack = await startOAuthClient(
      `  - {id: files, from: https://mcp.test, to: "${upstream.mcp}", mcp: {server: {}}${keys}}`,
      { settings: `upstream_oauth: {allowed_private_hosts: [localhost, 127.0.0.1]}\n${settings}` },
    );
  }
  const begin = () =>
    stack.upstreamOAuth.begin({ userId: alice, route: stack.route(), returnTo: "https://mcp.test/done" });

  it("is not connected unless the routes file names the CA", async () => {
    await start("");
    expect(await begin()).toMatchObject({ ok: false, code: "unreachable" });
    expect(upstream.seen).toEqual([]);
  });

  it("works with the route's tls_custom_ca_file: discovery, registration and token requests", async () => {
    await start(`, tls_custom_ca_file: ${authority.files.ca}`);
    await stack.connect(upstream.agree);
    expect(upstream.paths()).toEqual(expect.arrayContaining(["/mcp", "/register", "/token"]));
    expect(upstream.tokenRequests).toHaveLength(1);
  });

  it("works with envoy.upstream_ca, which applies to all routes", async () => {
    await start("", `envoy: {upstream_ca: ${authority.files.ca}}`);
    await stack.connect(upstream.agree);
  });

  it("must have a certificate for tls_upstream_server_name, which is sent as SNI", async () => {
    const ca = `, tls_custom_ca_file: ${authority.files.ca}`;
    await start(`${ca}, tls_upstream_server_name: files.internal`);
    await stack.connect(upstream.agree);
    expect(new Set(upstream.names)).toEqual(new Set(["files.internal"]));
    await stack.close();
    upstream.seen.length = 0;
    await start(`${ca}, tls_upstream_server_name: other.internal`);
    expect(await begin()).toMatchObject({ ok: false, code: "unreachable" });
    expect(upstream.seen).toEqual([]);
  });

  it("is not connected if the file cannot be read", async () => {
    await start(`, tls_custom_ca_file: ${join(folder, "of-envoy-only.pem")}`);
    expect(await begin()).toMatchObject({ ok: false, code: "unreachable" });
  });
});
