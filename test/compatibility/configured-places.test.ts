import { describe, expect, it } from "vitest";
import { problemsOf } from "../config/problems-of.ts";

const signIn = "sign_in: {providers: [{issuer: https://id.example.com, client_id: c}]}\n";
const head = `issuer: https://auth.example.com\n${signIn}policy: {allow: {or: [{accept: true}]}}\n`;
const route = (from: string, more = "") => `  - {from: "${from}", to: http://x, mcp: {}${more}}\n`;

describe("Fixed texts of a route, well_known", () => {
  const problems = (texts: string, others = "") =>
    problemsOf(`${head}routes:\n${route("https://h.example.com/mcp", `, well_known: ${texts}`)}${others}`);

  it.each([
    "{openai-apps-challenge: abc}",
    "{security.txt: abc, assetlinks.json: [{a: 1}], matrix/server: {m.server: x}}",
    "{pki-validation/fileauth.txt: 'a\\tb'}",
  ])("accepts %s", (texts) => expect(problems(texts)).toEqual([]));

  it.each([
    ["{oauth-authorization-server: x}", "served by the gateway itself"],
    ["{oauth-protected-resource/mcp: x}", "served by the gateway itself"],
    ["{OpenID-Configuration: x}", "served by the gateway itself"],
    ["{pomerium/other: x}", "served by the gateway itself"],
    ["{/.well-known/x: x}", "not an exact name"],
    ["{'a*': x}", "not an exact name"],
    ["{'a/../b': x}", "not an exact name"],
    ["{'a%2fb': x}", "not an exact name"],
    ["{'': x}", "not an exact name"],
    ["{a: 1}", "a string, or a mapping"],
    ["{a: null}", "a string, or a mapping"],
    ["{a: ''}", "empty"],
    ['{a: "x\\x00"}', "control characters"],
    [`{a: ${"x".repeat(17_000)}}`, "longer than"],
    ["[a]", ""],
  ])("rejects %s", (texts, why) => {
    const [first = "", ...more] = problems(texts);
    expect(first).toContain("error routes[0].well_known");
    expect(first).toContain(why);
    expect(more).toEqual([]);
  });

  it("serves a name from one route of a host only", () => {
    const twice = route("https://h.example.com/two", ", well_known: {a: y}");
    expect(problems("{a: x}", twice)).toEqual([
      expect.stringContaining("/.well-known/a of h.example.com is already"),
    ]);
    expect(problems("{a: x}", route("https://i.example.com", ", well_known: {a: y}"))).toEqual([]);
    const below = route("https://h.example.com/.well-known/a");
    expect(problems("{a: x}", below)).toEqual([expect.stringContaining("is the path of the route")]);
  });
});

describe("The addresses where the generated Envoy serves without TLS", () => {
  const problems = (envoy: string, routes = route("https://h.example.com")) =>
    problemsOf(`${head}envoy: ${envoy}\nroutes:\n${routes}`);

  it.each(["{tls: {terminated_by: 127.0.0.1}}", "{tls: {terminated_by: [10.0.0.0/8, 'fd00::/64']}}"])(
    "accepts %s",
    (envoy) => expect(problems(envoy)).toEqual([]),
  );

  it.each([
    ["{tls: {terminated_by: caddy}}", "error envoy.tls.terminated_by[0]", "not an address"],
    ["{tls: {terminated_by: 0.0.0.0/0}}", "error envoy.tls.terminated_by[0]", "could forge"],
    ["{tls: {terminated_by: '::/0'}}", "error envoy.tls.terminated_by[0]", "could forge"],
    ["{tls: {terminated_by: 8.8.8.8}}", "warning envoy.tls.terminated_by[0]", "unencrypted"],
    [
      "{tls: {terminated_by: 10.0.0.1, certificate: a, key: b}}",
      "error envoy.tls.certificate",
      "no certificate",
    ],
    ["{listen: 'unix:/run/x', tls: {terminated_by: 10.0.0.1}}", "error envoy.listen", "Unix socket"],
    ["{http_address: 0.0.0.0}", "warning envoy.http_address", "unencrypted"],
    ["{http_address: localhost}", "error envoy.http_address", ""],
  ])("reports what is wrong with %s", (envoy, where, why) => {
    const [first = ""] = problems(envoy);
    expect(first).toContain(where);
    expect(first).toContain(why);
  });

  it("requires different ports for https and http, and one scheme per host", () => {
    const local = route("http://localhost:8000");
    const taken = problems("{listen: '0.0.0.0:8000'}", route("https://h.example.com") + local);
    expect(taken).toEqual([expect.stringContaining("where http://localhost:8000 is served without TLS")]);
    const both = route("https://localhost:8000/a") + local;
    expect(problems("{}", both)).toEqual([expect.stringContaining("is both https://localhost:8000 and")]);
    expect(problems("{}", local)).toEqual([]);
    expect(problems("{}", route("http://h.example.com"))).toEqual([
      expect.stringContaining("for localhost only"),
    ]);
  });
});
