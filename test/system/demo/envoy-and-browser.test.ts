import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { stringify } from "yaml";
import { browser } from "../../../dev/demo/browser.ts";
import { type CertificateAuthority, certificateAuthority } from "../../../dev/demo/certificate-authority.ts";
import { type Envoy, envoy } from "../../../dev/demo/envoy.ts";
import { freePort } from "../../../dev/demo/free-port.ts";
import { loopbackFetch } from "../../../dev/demo/loopback-fetch.ts";
import { bytesThroughEnvoy, throughEnvoy, throughEnvoyHttp2 } from "../../support/through-envoy.ts";

let folder: string;
let ca: CertificateAuthority;
let envoyPort: number;
let running: Envoy;

/** An Envoy that greets every https host, without a sidecar. */
function bootstrap(adminPort: number): string {
  const address = (port: number) => ({ socket_address: { address: "127.0.0.1", port_value: port } });
  const type = (name: string) => `type.googleapis.com/${name}`;
  const hello = { status: 200, body: { inline_string: "<!doctype html><h1>Hello from Envoy</h1>" } };
  const html = { header: { key: "content-type", value: "text/html" } };
  const hcm = {
    "@type": type("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
    stat_prefix: "hello",
    codec_type: "AUTO",
    http_filters: [
      {
        name: "envoy.filters.http.router",
        typed_config: { "@type": type("envoy.extensions.filters.http.router.v3.Router") },
      },
    ],
    route_config: {
      virtual_hosts: [
        {
          name: "all",
          domains: ["*"],
          response_headers_to_add: [html],
          routes: [{ match: { prefix: "/" }, direct_response: hello }],
        },
      ],
    },
  };
  const tls = {
    "@type": type("envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
    common_tls_context: {
      alpn_protocols: ["h2", "http/1.1"],
      tls_certificates: [
        { certificate_chain: { filename: ca.files.certificate }, private_key: { filename: ca.files.key } },
      ],
    },
  };
  return stringify({
    admin: { address: address(adminPort) },
    static_resources: {
      listeners: [
        {
          name: "https",
          address: address(envoyPort),
          filter_chains: [
            {
              transport_socket: { name: "envoy.transport_sockets.tls", typed_config: tls },
              filters: [{ name: "envoy.filters.network.http_connection_manager", typed_config: hcm }],
            },
          ],
        },
      ],
    },
  });
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "envoy-"));
  ca = await certificateAuthority(folder, ["hello.test"]);
  envoyPort = await freePort();
  const adminPort = await freePort();
  running = await envoy({ bootstrap: bootstrap(adminPort), folder, adminPort });
});
afterAll(async () => {
  await running.close();
  await rm(folder, { recursive: true });
});

test("clients reach a host without DNS, by HTTP/1.1, HTTP/2, fetch and raw bytes", async () => {
  const address = { envoyPort, ca };
  const url = "https://hello.test/";
  expect((await throughEnvoy(address, { url })).body).toContain("Hello from Envoy");
  expect((await throughEnvoyHttp2(address, { url })).header("content-type")).toBe("text/html");
  const http = loopbackFetch(ca.ca, envoyPort);
  expect((await http.fetch(url)).status).toBe(200);
  await http.close();
  const bytes = "GET / HTTP/1.1\r\nHost: hello.test\r\nConnection: close\r\n\r\n";
  expect(await bytesThroughEnvoy(address, "hello.test", bytes)).toMatch(/^HTTP\/1\.1 200 OK/);
});

test("Chromium trusts the temporary certificate and nothing else", async () => {
  const resolve = { "*.test": `127.0.0.1:${envoyPort}` };
  const trusting = await browser({ publicKeyHash: ca.publicKeyHash, resolve });
  const page = await trusting.newPage();
  await page.goto("https://hello.test/");
  expect(await page.textContent("h1")).toBe("Hello from Envoy");
  await trusting.close();
  const wary = await browser({ publicKeyHash: "A".repeat(43).concat("="), resolve });
  await expect((await wary.newPage()).goto("https://hello.test/")).rejects.toThrow("ERR_CERT");
  await wary.close();
});

test("an Envoy that cannot start reports the reason", async () => {
  const broken = envoy({
    bootstrap: "static_resources: {listeners: 7}",
    folder,
    adminPort: await freePort(),
  });
  await expect(broken).rejects.toThrow(/Envoy exited\. The end of its log.*listeners/s);
});

test("the error for a port in use names the port and the variable that overrides it", async () => {
  const server = createServer();
  const port = await freePort();
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  await expect(freePort(port, "DEMO_PORT")).rejects.toThrow(
    `Port ${port} is in use: stop the program that listens there, or set DEMO_PORT to another port.`,
  );
  await new Promise((resolve) => server.close(resolve));
});
