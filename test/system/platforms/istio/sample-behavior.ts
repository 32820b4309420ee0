import { beforeAll, describe, expect, it } from "vitest";
import { ownPaths } from "../../../../src/config/route-table.ts";
import type { KubernetesObject } from "../../../deploy/manifests.ts";
import type { E2e } from "../../../support/e2e.ts";
import { pingThroughEnvoy } from "../../../support/ping-through-envoy.ts";
import { throughEnvoy } from "../../../support/through-envoy.ts";
import type { IstioControlPlane } from "./control-plane.ts";
import { istioSample } from "./manifests.ts";
import type { Vendor } from "./vendor.ts";

/** What the tests need of a running Istio. */
export interface RunningIstio {
  readonly controlPlane: IstioControlPlane;
  /** The server of the open route. */
  readonly outside: Vendor;
  /** Of the gateway's Envoy. */
  readonly adminPort: number;
  /** Of the API server and of Istio, on the sample as it is. */
  readonly warnings: readonly string[];
}

/** Of deploy/kubernetes/istio.yaml: admission, what reaches Envoy, and what the other gateways do elsewhere. */
export function istioBehavior(stackOf: () => E2e, istioOf: () => RunningIstio): void {
  describe("deploy/kubernetes/istio.yaml", () => {
    let stack: E2e;
    let istio: RunningIstio;
    let token: string;
    beforeAll(async () => {
      stack = stackOf();
      istio = istioOf();
      token = await stack.externalToken("alice", stack.urls.open);
    });

    const object = (kind: string, name: string): KubernetesObject => {
      const found = istioSample("x".repeat(40)).find(
        (one) => one.kind === kind && one.metadata.name === name,
      );
      if (found === undefined) throw new Error(`the sample has no ${kind} ${name}`);
      return found;
    };
    const changed = (kind: string, name: string, change: (json: string) => string): KubernetesObject =>
      JSON.parse(change(JSON.stringify(object(kind, name))));

    it("is admitted by the API server and by Istio, without a warning about its fields", () => {
      const others = istio.warnings.filter((one) => !one.includes("EnvoyFilter exposes internal"));
      expect(others).toEqual([]);
    });

    it("an unknown field, or a timeout of zero, would be rejected", async () => {
      const { apply } = istio.controlPlane.kubernetes;
      await expect(
        apply(changed("VirtualService", "notes", (json) => json.replace('"gateways"', '"gateway"'))),
      ).rejects.toThrow("gateway");
      await expect(
        apply(changed("VirtualService", "notes", (json) => json.replace('"60s"', '"0s"'))),
      ).rejects.toThrow("must be a valid duration greater than 1ms");
    });

    it("Istio warns of a field of a patch that Envoy does not have", async () => {
      const filter = changed("EnvoyFilter", "mcp-challenge", (json) =>
        json.replace('"allow_mode_override"', '"mode_override"').replace("mcp-challenge", "mcp-misspelled"),
      );
      const warnings = await istio.controlPlane.apply([
        { ...filter, spec: { ...Object(filter.spec), workloadSelector: { labels: { istio: "none" } } } },
      ]);
      expect(warnings.join("\n")).toContain("mode_override");
    });

    it("reaches Envoy as a whole: no limit was dropped on the way, and Envoy has rejected nothing", async () => {
      const dump = await (await fetch(`http://127.0.0.1:${istio.adminPort}/config_dump`)).text();
      for (const wanted of [
        '"path_with_escaped_slashes_action": "REJECT_REQUEST"',
        '"headers_with_underscores_action": "REJECT_REQUEST"',
        '"request_headers_timeout": "10s"',
        '"request_timeout": "60s"',
        '"stream_flush_timeout": "60s"',
        '"transport_socket_connect_timeout": "10s"',
        '"listener_filters_timeout": "10s"',
        '"max_connections_to_accept_per_socket_event": 16',
        '"merge_slashes": true',
        '"encode_raw_headers": true',
        '"pack_as_bytes": true',
        '"envoy_mcp_auth.own_body"',
        // docs/istio.md: sessions of the aggregated route stay at one replica.
        '"header_name": "mcp-session-id"',
      ])
        expect(dump).toContain(wanted);
      expect(istio.controlPlane.log()).not.toMatch(/ACK ERROR/);
    });

    it("only the gateway's own endpoints pass unchecked, and the authorization server's on the issuer's host only", async () => {
      const paths = { prefix: "/.pomerium" };
      const own = ownPaths({ paths }, { issuer: true, route: true }).map(({ path }) => path);
      const arrived = () => stack.everything.requests.length + stack.open.requests.length;
      const before = arrived();
      const variants = own.flatMap((path) => [
        `${path}x`,
        `${path}-x/y`,
        `/x${path}`,
        `${path};x`,
        path.toUpperCase(),
      ]);
      for (const path of ["/", "/mcp", "/oauth", "/oauth/token", "/oauth/x", "//oauth/x", ...variants]) {
        for (const host of [
          "everything.test",
          "everything.test:443",
          "EVERYTHING.test",
          "everything.test:8443",
        ]) {
          const { status } = await throughEnvoy(stack, {
            url: "https://everything.test/",
            path,
            headers: { host },
          });
          expect([path, host, status]).toEqual([path, host, host.endsWith(":8443") ? 404 : 401]);
        }
      }
      expect(arrived()).toBe(before);
      const metadata = "/.well-known/oauth-authorization-server";
      expect((await throughEnvoy(stack, { url: `https://auth.test${metadata}` })).status).toBe(200);
      expect((await throughEnvoy(stack, { url: "https://auth.test/oauth/x" })).status).toBe(404);
      expect((await throughEnvoy(stack, { url: "https://auth.test/oauth/authorize" })).status).not.toBe(404);
    });

    it("a host with a VirtualService that the policy does not list is checked", async () => {
      const template = object("VirtualService", "notes");
      const [, , , route] = Object(template.spec).http;
      const destination = { host: "everything.upstream.internal", port: { number: stack.everything.port } };
      await istio.controlPlane.apply([
        {
          ...template,
          metadata: { ...template.metadata, name: "forgotten" },
          spec: {
            hosts: ["nobody.test"],
            gateways: ["mcp"],
            http: [{ ...route, name: "forgotten", route: [{ destination }] }],
          },
        },
      ]);
      const routes = () =>
        fetch(`http://127.0.0.1:${istio.adminPort}/config_dump?resource=dynamic_route_configs`).then(
          (answer) => answer.text(),
        );
      await expect.poll(routes).toContain('"forgotten"');
      const before = stack.everything.requests.length;
      const answer = await throughEnvoy(stack, {
        url: "https://nobody.test/",
        headers: { authorization: `Bearer ${token}` },
      });
      expect(answer.status).toBe(404);
      expect(stack.everything.requests.length).toBe(before);
    });

    it("a header with an underscore is 400: servers may read it as another one", async () => {
      const headers = { authorization: `Bearer ${token}`, x_pomerium_claim_email: "root@example.com" };
      expect((await throughEnvoy(stack, { url: stack.urls.open, headers })).status).toBe(400);
    });

    it("paths below the route stay below the server's path", async () => {
      const base = new URL(stack.open.url).pathname;
      for (const [path, wanted] of [
        ["/", base],
        ["/sub", `${base}/sub`],
        ["/-admin", `${base}/-admin`],
        [base, base],
        [`${base}/sub`, `${base}/sub`],
        [`${base}-admin`, `${base}${base}-admin`],
      ] as const) {
        await throughEnvoy(stack, {
          url: stack.urls.open,
          path,
          headers: { authorization: `Bearer ${token}` },
        });
        expect([path, stack.open.requests.at(-1)?.url]).toEqual([path, wanted]);
      }
    });

    it("a server's response cannot act on the host as a page", async () => {
      const answer = await pingThroughEnvoy(stack, stack.urls.open, token);
      expect(answer.header("content-security-policy")).toContain("sandbox");
      expect(answer.header("x-content-type-options")).toBe("nosniff");
      expect(answer.header("set-cookie")).toBeUndefined();
    });

    it("a server outside gets requests only if its certificate has its name and is from a trusted CA", async () => {
      const call = async () => (await pingThroughEnvoy(stack, stack.urls.open, token)).status;
      const served = await call();
      expect(served).toBe(200);
      const before = stack.open.requests.length;
      for (const which of ["one for another name", "one of an unknown CA"] as const) {
        await istio.outside.present(which);
        expect([which, await call()]).toEqual([which, 503]);
      }
      expect(stack.open.requests.length).toBe(before);
      await istio.outside.present("its own");
      await expect.poll(call).toBe(served);
    });

    it("the gateway's own endpoints do not accept a body of more than 64 KiB", async () => {
      const answer = await throughEnvoy(stack, {
        url: "https://auth.test/oauth/token",
        method: "POST",
        headers: { "content-type": "application/x-www-form-urlencoded" },
        body: `grant_type=${"x".repeat(70_000)}`,
      });
      expect(answer.status).toBe(413);
    });
  });
}
