import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { certificateAuthority } from "../../../../dev/demo/certificate-authority.ts";
import type { E2e } from "../../../support/e2e.ts";
import { grpcPeer, listenOf } from "../../../support/grpc-peer.ts";
import { bytesThroughEnvoy, throughEnvoy, throughEnvoyHttp2 } from "../../../support/through-envoy.ts";
import type { TlsFront } from "../../../support/tls-front.ts";
import { initialize, mcpHeaders } from "../behavior/token-behavior.ts";
import { envoyStatistic } from "./start-envoy-gateway.ts";

/** What the objects of `deploy/kubernetes/envoy-gateway.yaml` must do, beyond what holds with every gateway. */
export function envoyGatewayBehavior(running: () => E2e, front: () => TlsFront): void {
  describe("the sample for Envoy Gateway", () => {
    let stack: E2e;
    let authorization: string;
    beforeAll(async () => {
      stack = running();
      authorization = `Bearer ${await stack.externalToken("alice")}`;
    });
    // Clients of other tests may still be connected.
    const mine = { "user-agent": "sample-test" };
    const get = (url: string, headers: Record<string, string> = {}) =>
      throughEnvoy(stack, { url, headers: { ...mine, ...headers } });
    const upstreamPaths = (after: number) =>
      stack.everything.requests
        .slice(after)
        .filter(({ headers }) => headers.some(([, value]) => value === mine["user-agent"]))
        .map(({ url }) => url);

    it("is accepted: no object has a condition that is false", async () => {
      const log = await readFile(stack.envoy.logFile, "utf8");
      const conditions = [...log.matchAll(/reason: (\S+)\n\s+status: "(\w+)"\n\s+type: (\S+)/g)];
      expect(conditions.length).toBeGreaterThan(30);
      const wrong = conditions.filter(([, , status]) => status !== "True").map(([, reason]) => reason);
      // Without Kubernetes, there is no load balancer with an address.
      expect(new Set(wrong)).toEqual(new Set(["AddressNotAssigned"]));
    });

    it.each([
      ["/", "/mcp"],
      ["/sub", "/mcp/sub"],
      ["/sub/", "/mcp/sub/"],
      ["/-admin", "/mcp/-admin"],
      ["/mcp", "/mcp"],
      ["/mcp/sub?a=/b", "/mcp/sub?a=/b"],
      ["/mcpsub", "/mcp/mcpsub"],
    ])("%s is the server's %s", async (path, expected) => {
      const before = stack.everything.requests.length;
      await get(`https://everything.test${path}`, { authorization, accept: "application/json" });
      expect(upstreamPaths(before)).toEqual([expected]);
    });

    it("a path below /.upstream/ without a proof, or of slashes only, does not reach the server", async () => {
      const before = stack.everything.requests.length;
      for (const path of ["/.upstream/x/admin", "/.upstream/", "/.upstream//admin", "//", "///"])
        expect((await get(`https://everything.test${path}`, { authorization })).status).toBeGreaterThan(399);
      expect(upstreamPaths(before)).toEqual([]);
    });

    it("paths of the issuer's host that nothing serves are named", async () => {
      const answer = await get("https://auth.test/nothing");
      expect([answer.status, answer.body]).toEqual([404, expect.stringContaining("/nothing")]);
    });

    it("a route without an HTTPRoute is not there yet: no challenge and no 404, from which a client does not recover", async () => {
      for (const path of ["/", "/.well-known/oauth-protected-resource"]) {
        const answer = await get(`https://ahead.test${path}`);
        expect([answer.status, answer.header("retry-after")]).toEqual([503, "1"]);
        expect(answer.body).toContain("route_mismatch");
      }
    });

    it("a header name with an underscore is rejected, before the check", async () => {
      const before = stack.everything.requests.length;
      const forged = { authorization, x_pomerium_claim_email: "root@example.com" };
      expect((await get("https://everything.test/", forged)).status).toBe(400);
      expect(upstreamPaths(before)).toEqual([]);
    });

    it("bytes that are not UTF-8 cannot hide a denied tool", async () => {
      const before = stack.everything.requests.length;
      const body = Buffer.from(
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","na\xffme":"add","arguments":{"message":"x"}}}',
        "latin1",
      );
      const head = Object.entries({
        ...mcpHeaders,
        ...mine,
        authorization,
        "content-length": String(body.length),
      })
        .map(([name, value]) => `${name}: ${value}\r\n`)
        .join("");
      const answer = await bytesThroughEnvoy(
        stack,
        "everything.test",
        Buffer.concat([
          Buffer.from(`POST / HTTP/1.1\r\nhost: everything.test\r\nconnection: close\r\n${head}\r\n`),
          body,
        ]),
      );
      expect(answer).toMatch(/^HTTP\/1\.1 400 /);
      // Not `hidden_bytes`: bodies arrive as bytes.
      expect(answer).toContain("not valid UTF-8");
      expect(upstreamPaths(before)).toEqual([]);
    });

    it("the check and the server see the same path, even with bytes that are not UTF-8", async () => {
      const before = stack.everything.requests.length;
      const url = "https://everything.test/";
      const path = "/adm\xffin";
      await throughEnvoyHttp2(stack, { url, path, headers: { ...mine, authorization } });
      // In a check, Envoy would replace such a byte by `!`; normalized before, it is escaped.
      expect(upstreamPaths(before)).toEqual(["/mcp/adm%FFin"]);
    });

    it("a neighbor who reaches the sidecar's ports has no secret and gets nothing", async () => {
      const { grpc, http } = await listenOf(stack);
      const page = await fetch(`http://${http}/.pomerium/`, { headers: { "x-mcp-auth-secret": "guessed" } });
      expect(page.status).toBe(403);
      const peer = grpcPeer(grpc);
      try {
        const answer = await peer.check("everything.test", { authorization });
        expect(answer.code).toBe(16);
        expect(answer.set).toEqual({});
      } finally {
        peer.close();
      }
    });

    it("the secret reaches neither clients nor upstreams", async () => {
      const { envoy_secret: secret } = await listenOf(stack);
      const answer = await get("https://auth.test/.well-known/oauth-authorization-server");
      await get("https://everything.test/", { authorization, "x-mcp-auth-secret": secret });
      expect(JSON.stringify(answer)).not.toContain(secret);
      expect(JSON.stringify(stack.everything.requests)).not.toContain(secret);
    });

    it("a server on the internet is called over TLS, and only if its certificate is from the named CA", async () => {
      const bearer = `Bearer ${await stack.externalToken("alice", stack.urls.open)}`;
      const call = () =>
        throughEnvoy(stack, {
          url: "https://open.test/",
          method: "POST",
          headers: { ...mcpHeaders, authorization: bearer },
          body: initialize,
        });
      expect((await call()).status).toBe(200);
      expect(new Set(front().names)).toEqual(new Set(["localhost"]));
      const arrived = stack.open.requests.length;
      const folder = await mkdtemp(join(tmpdir(), "another-ca-"));
      await front().show(await certificateAuthority(folder));
      await rm(folder, { recursive: true });
      expect((await call()).status).toBe(503);
      expect(stack.open.requests.length).toBe(arrived);
      await front().show(stack.ca);
      await expect.poll(async () => (await call()).status).toBe(200);
    });

    it("within a minute of its first call, a route's health checks of the sidecar run more often than once a minute", async () => {
      // Envoy's interval without traffic, which Envoy Gateway cannot set. Until then, a call to a hung sidecar takes twice as long.
      await get("https://open.test/", { authorization });
      const checks = () => envoyStatistic(stack.envoy, "cluster./mcp/open/extproc/0.health_check.success");
      await expect.poll(checks, { interval: 500, timeout: 100_000 }).toBeGreaterThan(2);
    });
  });
}
