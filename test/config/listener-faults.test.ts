import { describe, expect, it } from "vitest";
import { peerAuthentication } from "../../src/config/listeners.ts";
import { loadConfig } from "../../src/config/load-config.ts";
import { formatProblem } from "../../src/config/problems.ts";
import { configFile } from "./config-file.ts";

const [old, fresh] = ["old-secret-of-envoy-0123456789abcdef", "new-secret-of-envoy-0123456789abcdef"];
const tls = (names: string) => `grpc_tls: {certificate: a, key: b, client_ca: c, client_names: [${names}]}`;

function problems(listen: string, listeners: { grpc?: string; http?: string } | undefined = {}) {
  const file = configFile(`issuer: https://auth.example.com
sign_in: {providers: [{issuer: https://id.example.com, client_id: c}]}
policy: {allow: {or: [{accept: true}]}}
listen: {${listen}}
routes: [{from: https://h.example.com, to: http://x, mcp: {}}]
`);
  return loadConfig(file, {}, { listeners }).problems.map((problem) => ({
    severity: problem.severity,
    path: problem.path,
    text: formatProblem(problem),
  }));
}

describe("every TCP listener authenticates its peer", () => {
  it.each<[string, string, string[]]>([
    ["nothing at all", "", ["error listen.grpc", "warning listen.http"]],
    ["every address", 'grpc: "0.0.0.0:1", http: "0.0.0.0:2"', ["error listen.grpc", "error listen.http"]],
    ["a secret", `grpc: "0.0.0.0:1", http: "0.0.0.0:2", envoy_secret: ${old}`, []],
    ["two secrets", `envoy_secret: [${fresh}, ${old}]`, []],
    ["Unix sockets", 'grpc: "unix:/a", http: "unix:/b"', []],
    ["one Unix socket", 'grpc: "unix:/a", http: "0.0.0.0:2"', ["error listen.http"]],
    ["switched off on loopback", "grpc_authentication: none", []],
    ["switched off on ::1", 'grpc: "[::1]:1", grpc_authentication: none', []],
    [
      "switched off on every address",
      'grpc: "0.0.0.0:1", grpc_authentication: none',
      ["error listen.grpc_authentication"],
    ],
    [
      "switched off on a name, which may lead anywhere",
      'grpc: "localhost:1", grpc_authentication: none',
      ["error listen.grpc_authentication"],
    ],
    [
      "switched off beside a secret",
      `grpc_authentication: none, envoy_secret: ${old}`,
      ["error listen.grpc_authentication"],
    ],
    ["mTLS with any certificate of a CA", tls(""), ["error listen.grpc_tls", "warning listen.http"]],
    ["mTLS with names", `${tls('"DNS:envoy"')}, http: "unix:/b"`, []],
    [
      "mTLS with names, HTTP on all addresses",
      `${tls('"DNS:envoy"')}, http: "0.0.0.0:2"`,
      ["error listen.http"],
    ],
    ["a short secret", "envoy_secret: short", ["error listen.envoy_secret"]],
    [
      "a secret that Envoy would parse as a command operator",
      `envoy_secret: "%REQ(x)%${old}"`,
      ["error listen.envoy_secret"],
    ],
  ])("%s", (_what, listen, expected) => {
    const found = problems(listen);
    const named = found.map(({ severity, path }) => `${severity} ${path.replace(/\[\d\]$/, "")}`);
    expect(named.toSorted()).toEqual(expected.toSorted());
    for (const { text } of found) expect(text).toContain("fix:");
  });

  it("checks the addresses that override the file's", () => {
    const text = problems('grpc: "unix:/a", http: "unix:/b"', { grpc: "0.0.0.0:1" }).map(({ path }) => path);
    expect(text).toEqual(["listen.grpc"]);
  });

  it("is not checked if no listener is opened", () => {
    const file = configFile(
      "issuer: https://auth.example.com\nsign_in: {providers: [{issuer: https://id.example.com, client_id: c}]}\nroutes: []\n",
    );
    expect(loadConfig(file, {}).problems).toEqual([]);
  });
});

describe("a peer is authenticated by a secret", () => {
  const peers = peerAuthentication("127.0.0.1:1", { envoySecrets: [fresh, old] });
  it("accepts the old and the new one during rotation", () => {
    expect([fresh, old].map((one) => peers.verify(one))).toEqual(["proven", "proven"]);
  });
  it.each([`${fresh}x`, fresh.slice(1), `${fresh}, ${old}`, fresh.toUpperCase(), "x"])(
    "rejects %s",
    (shown) => {
      expect(peers.verify(shown)).toBe("wrong");
    },
  );
  it("no value is missing, several values are wrong", () => {
    expect([peers.verify(undefined), peers.verify(""), peers.verify([fresh, fresh])]).toEqual([
      "missing",
      "missing",
      "wrong",
    ]);
  });
  it("a Unix socket requires no secret", () => {
    expect(peerAuthentication("unix:/a", { envoySecrets: [fresh] }).verify(undefined)).toBe("proven");
  });
});
