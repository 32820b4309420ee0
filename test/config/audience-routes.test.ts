import { describe, expect, test } from "vitest";
import { isValidForRoute } from "../../src/config/check-identities.ts";
import { problemsOf } from "./problems-of.ts";

const a = { id: "a", resource: "https://a.test" };
const b = { id: "b", resource: "https://b.test/team" };
const opened = (audience: string, listed?: Parameters<typeof isValidForRoute>[1]) =>
  [a, b].filter((route) => isValidForRoute(audience, listed, route)).map(({ id }) => id);

describe("the routes of a trusted issuer's audience", () => {
  test("a URL: only the route with this resource", () => {
    expect(opened("https://a.test")).toEqual(["a"]);
    expect(opened("https://A.test:443/")).toEqual(["a"]);
    expect(opened("https://b.test/team/")).toEqual(["b"]);
    for (const audience of [
      "https://b.test",
      "https://b.test/team/x",
      "http://a.test",
      "https://gone.test",
      "HTTPS://gone.test",
    ])
      expect(opened(audience)).toEqual([]);
  });

  test("any other audience: the listed routes, else all", () => {
    expect(opened("api://mcp")).toEqual(["a", "b"]);
    expect(opened("api://mcp", ["b"])).toEqual(["b"]);
    expect(opened("mcp", ["https://b.test/team/", "gone"])).toEqual(["b"]);
    expect(opened("https://a.test", ["b"])).toEqual([]);
  });

  test("a listed audience: exactly its routes", () => {
    const listed = { "https://api.test": ["a"], mcp: ["b"] };
    expect(opened("https://api.test", listed)).toEqual(["a"]);
    expect(opened("mcp", listed)).toEqual(["b"]);
    expect(opened("other", listed)).toEqual([]);
    expect(opened("constructor", listed)).toEqual([]);
    expect(opened("https://b.test/team", listed)).toEqual(["b"]);
  });
});

const file = (issuer: string, more = "") => `issuer: https://auth.test
sign_in: {providers: [{id: company, issuer: https://id.test, client_id: c}]}
external_tokens: {trusted_issuers: [{id: corp, issuer: https://idp.test${issuer}}]}
${more || "policy: {allow: {and: [{accept: true}]}}"}
routes: [{id: a, from: https://a.test, to: http://x, mcp: {server: {}}}]
`;

describe("check-config", () => {
  test("warns of an audience for all routes or for none, and of a missing route", () => {
    expect(problemsOf(file(", audience: [mcp, https://gone.test]"))).toEqual([
      expect.stringMatching(/warning .*a token for "mcp" is valid for every MCP route.* -> list its routes/),
      expect.stringMatching(
        /warning .*a token for "https:\/\/gone.test" is valid for no route.* -> list its routes/,
      ),
    ]);
    expect(problemsOf(file(", audience: mcp, routes: [a, b]"))).toEqual([
      expect.stringMatching(/warning .*there is no MCP route "b"/),
    ]);
    expect(problemsOf(file(", audience: [mcp, https://a.test], routes: [https://a.test/]"))).toEqual([]);
    expect(problemsOf(file(', audience: "https://api.test", routes: {"https://api.test": [a]}'))).toEqual([]);
    expect(problemsOf(file(", audience: mcp, routes: {mpc: [a]}"))).toContainEqual(
      expect.stringMatching(/error .*"mpc" is not among the audiences/),
    );
  });

  test("warns of providers and issuers with untrusted e-mail addresses if policy uses them", () => {
    const corp = ", audience: mcp, routes: [a]";
    const silent = [
      expect.stringMatching(/warning sign_in.providers\[0\]: policy uses e-mail.*-> set email_domains/),
      expect.stringMatching(/warning external_tokens.trusted_issuers\[0\]: policy uses e-mail/),
    ];
    for (const rule of ["domain: x.com", "email: a@x.com", "claim/email: a@x.com", "not: [{domain: x.com}]"])
      expect(problemsOf(file(corp, `policy: {allow: {and: [{accept: true}, {${rule}}]}}`))).toEqual(silent);
    const said = file(`${corp}, trust_email: true`, "policy: {allow: {and: [{domain: x.com}]}}");
    const anyDomain = expect.stringMatching(
      /corp is one of several sources: .* those of another source.*-> set email_domains/,
    );
    expect(problemsOf(said)).toEqual([...silent.slice(0, 1), anyDomain]);
    const domains = said.replace("client_id: c", "client_id: c, email_domains: [X.com]");
    expect(problemsOf(domains)).toEqual([anyDomain]);
    expect(problemsOf(domains.replace("trust_email: true", "email_domains: [corp.com]"))).toEqual([]);
    const alone = said
      .replace(/^external_tokens.*$/m, "")
      .replace("client_id: c", "client_id: c, trust_email: false");
    expect(problemsOf(alone)).toEqual([]);
    const byAddress = file(corp).replace("client_id: c", "client_id: c, claims: {user: email}");
    expect(problemsOf(byAddress)).toEqual([expect.stringMatching(/users are identified by e-mail address/)]);
  });
});
