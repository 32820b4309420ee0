import { describe, expect, it } from "vitest";
import { envoyConfig } from "../../src/cli/envoy-config.ts";
import { configFile } from "./config-file.ts";
import { problemsOf } from "./problems-of.ts";

const [checkSecret, xdsSecret] = [
  "check-secret-0123456789-abcdefghijklmno",
  "xds-secret-0123456789-abcdefghijklmnop",
];
const xds = (more = "", secret = xdsSecret) =>
  `{address: "0.0.0.0:18000", certificate: tls/a.crt, key: tls/a.key, secret: ${secret}${more}}`;
const sidecar = (more = "") =>
  `{grpc: "one:50051", http: "one:8080", xds: {ca: ca.crt, server_name: gateway.internal, credential: /etc/envoy/xds.yaml${more}}}`;
const file = (listen: string, envoySidecar: string) => `issuer: https://auth.example.com
sign_in: {providers: [{issuer: https://id.example.com, client_id: c}]}
policy: {allow: {or: [{accept: true}]}}
listen: {envoy_secret: ${checkSecret}${listen}}
envoy: {sidecar: ${envoySidecar}}
routes: [{from: https://h.example.com, to: http://x, mcp: {}}]
`;
const allProblems = (listen: string, envoySidecar = sidecar()) =>
  problemsOf(file(listen, envoySidecar)).map((problem) => problem.replace(/^\d+:\d+ /, ""));
/** Without the warnings of clear text, which only the test of TLS is about. */
const problems = (...given: Parameters<typeof allProblems>) =>
  allProblems(...given).filter((problem) => !problem.includes("in clear text"));

describe("a fleet of Envoys", () => {
  it("needs a listener with a certificate and a secret of its own", () => {
    expect(problems(`, xds: ${xds()}`)).toEqual([]);
    expect(problems(`, xds: ${xds("", `[${xdsSecret}, ${xdsSecret}-2]`)}`)).toEqual([]);
    expect(problems(', xds: {address: "0.0.0.0:1"}')).toEqual([
      expect.stringMatching(/^error listen\.xds\.certificate: /),
      expect.stringMatching(/^error listen\.xds\.key: /),
      expect.stringMatching(/^error listen\.xds\.secret: /),
    ]);
    expect(problems(`, xds: ${xds("", "short")}`)).toEqual([
      "error listen.xds.secret[0]: too short, or has characters that are not valid in a header of Envoy's configuration -> generate one: openssl rand -base64 33",
    ]);
    expect(problems(`, xds: ${xds().replace('"0.0.0.0:18000"', '"unix:/run/xds"')}`)).toEqual([
      "error listen.xds.address: Envoys on other machines cannot reach a Unix socket -> write host:port; for an Envoy on this machine, use serve --xds-dir instead",
    ]);
  });

  it("has TLS to the HTTP port on both sides or on none", () => {
    const [listen, tls] = ["http_tls: {certificate: a, key: b}", "http_tls: {ca: c, server_name: d}"];
    const both = sidecar().replace("xds:", `${tls}, xds:`);
    expect(problems(`, xds: ${xds()}, ${listen}`, both)).toEqual([]);
    expect(problems(`, xds: ${xds()}, ${listen}`)).toEqual([
      "warning listen.http_tls: the generated Envoy configuration does not use TLS to the HTTP port, and could not connect -> add envoy.sidecar.http_tls with the CA and the name of this certificate",
    ]);
    expect(problems(`, xds: ${xds()}`, both)).toEqual([
      "error envoy.sidecar.http_tls: the sidecar does not use TLS on its HTTP port: Envoy could not connect -> add listen.http_tls, or remove this",
    ]);
  });

  it("is reported if checks or sign-in travel between machines in clear text", () => {
    expect(allProblems(`, xds: ${xds()}`)).toEqual(
      ["grpc_tls", "http_tls"].map(
        (key) =>
          `warning listen.${key}: Envoys on other machines send tokens and cookies to this port in clear text -> set listen.${key} and envoy.sidecar.${key}, unless the network is encrypted (docs/fleet.md)`,
      ),
    );
  });

  it("does not authenticate with the check's secret", () => {
    expect(problems(`, xds: ${xds("", `[${xdsSecret}, ${checkSecret}]`)}`)).toEqual([
      "error listen.xds.secret: this is a value of listen.envoy_secret: a party that knows one of them could use it as the other -> generate a separate one: openssl rand -base64 33",
    ]);
    const shared = `issuer: https://auth.example.com
sign_in: {providers: [{issuer: https://id.example.com, client_id: c, client_secret: "\${S}"}]}
policy: {allow: {or: [{accept: true}]}}
listen: {envoy_secret: ${checkSecret}, xds: ${xds("", `"$${"{S}"}"`)}}
routes: [{from: https://h.example.com, to: http://x, mcp: {}}]
`;
    expect(
      problemsOf(shared, { S: xdsSecret }).filter((problem) => !problem.includes("in clear text")),
    ).toEqual([expect.stringMatching(/S is the secret of the (xDS listener|OAuth client c), too/)]);
  });

  it("reaches the sidecars over the network, and Envoy's part needs the listener", () => {
    const sockets = sidecar().replace('"one:50051"', '"unix:/run/grpc"');
    expect(problems(`, xds: ${xds()}`, sockets)).toEqual([
      "warning envoy.sidecar.grpc: Envoys on other machines cannot reach unix:/run/grpc -> list the sidecars' addresses in envoy.sidecar.grpc as host:port",
    ]);
    expect(problems("")).toEqual([
      "error envoy.sidecar.xds: the sidecar does not serve Envoy's configuration -> add listen.xds (docs/fleet.md), or remove this",
    ]);
  });
});

describe("the command envoy-config", () => {
  function run(format: "xds-bootstrap" | "xds-credential", listen: string, envoySidecar = sidecar()) {
    const printed = { out: "", err: "" };
    const code = envoyConfig({
      file: configFile(file(listen, envoySidecar)),
      env: {},
      format,
      out: (text) => {
        printed.out += text;
      },
      err: (text) => {
        if (!text.includes("in clear text")) printed.err += text;
      },
    });
    return { code, ...printed };
  }

  it("prints a bootstrap without secrets that prefers the first sidecar, and the credential apart from it", () => {
    const listen = `, xds: ${xds("", `[${xdsSecret}, another-${xdsSecret}]`)}`;
    const addresses = ', addresses: ["one.internal:18000", "two.internal:18000"]';
    const bootstrap = run("xds-bootstrap", listen, sidecar(addresses));
    expect(bootstrap).toMatchObject({ code: 0, err: "" });
    expect(bootstrap.out).toMatch(
      /priority: 0[\s\S]*"one\.internal"[\s\S]*priority: 1[\s\S]*"two\.internal"/,
    );
    expect(bootstrap.out).toContain('"/etc/envoy/xds.yaml"');
    for (const secret of [xdsSecret, checkSecret]) expect(bootstrap.out).not.toContain(secret);
    const credential = run("xds-credential", listen);
    expect(credential.out).toContain(`inline_string: "${xdsSecret}"`);
    expect(credential.out).not.toContain("another-");
  });

  it("names the section that is missing", () => {
    expect(run("xds-bootstrap", "", '{grpc: "one:1"}')).toMatchObject({
      code: 1,
      err: expect.stringMatching(/there is no listen\.xds: add it, as docs\/fleet\.md shows/),
    });
    expect(run("xds-credential", `, xds: ${xds()}`, '{grpc: "one:1", http: "one:2"}')).toMatchObject({
      code: 1,
      out: "",
      err: expect.stringContaining("there is no envoy.sidecar.xds"),
    });
  });
});
