import { describe, expect, it } from "vitest";
import { load } from "./load.ts";
import { problemsOf } from "./problems-of.ts";

const head =
  "issuer: https://auth.example.com\nsign_in: {providers: [{issuer: https://id.example.com, client_id: c}]}\npolicy: {allow: {or: [{accept: true}]}}\n";
const server = (settings = "", more = "") =>
  `  - {id: r, from: https://h.example.com, to: http://x, mcp: {server: {request_headers: {}${settings}}}${more}}\n`;
const problems = (headers: string, route = server()) =>
  problemsOf(`${head}jwt_claims_headers: ${headers}\nroutes:\n${route}`);
const claimsOf = (headers: string, route: string) =>
  load(`${route}jwt_claims_headers: ${headers}\n`).table.byId("r")?.claimHeaders;

describe("jwt_claims_headers", () => {
  it("is a list of claims, or names a header for each", () => {
    const route = "  - {id: r, from: https://h.example.com, to: http://x, mcp: {}}\n";
    expect(claimsOf("[email, Department]", route)?.claims).toEqual([
      ["x-pomerium-claim-email", "email"],
      ["x-pomerium-claim-department", "Department"],
    ]);
    expect(claimsOf("{X-Country: address/country}", route)?.claims).toEqual([
      ["x-country", "address/country"],
    ]);
  });

  it("of a route replaces the shared claims, whose headers clients still cannot send", () => {
    const route = (own: string) =>
      `  - {id: r, from: https://h.example.com, to: http://x, mcp: {}, jwt_claims_headers: ${own}}\n`;
    const own = claimsOf("{X_Team: team}", route("{X-Unit: unit}"));
    expect([own?.claims, [...(own?.names ?? [])]]).toEqual([[["x-unit", "unit"]], ["x-team", "x-unit"]]);
    const none = claimsOf("{X_Team: team}", route("{}"));
    expect([none?.claims, [...(none?.names ?? [])]]).toEqual([[], ["x-team"]]);
  });

  it.each([
    ...["iss", "aud", "exp", "nbf", "iat", "jti", "cnf", "nonce", "azp", "act", "scope", "groups_overflow"],
  ])("does not accept the claim %s, which belongs to the token", (claim) => {
    expect(problems(`{X-Value: ${claim}}`)).toEqual([expect.stringContaining(`${claim} is about the token`)]);
    expect(problems(`[${claim}]`)).toEqual([expect.stringContaining(`${claim} is about the token`)]);
  });

  it.each([
    ...["Authorization", "cookie", "Host", "Content-Type", "transfer-encoding", "connection", "origin", "te"],
    ...["x-envoy-max-retries", "X-Pomerium-Jwt-Assertion", "x_pomerium_assertion", "x-mcp-auth-consent"],
    ...["x-forwarded-for", "X-Forwarded-Host", "x-real-ip", "x-http-method-override", "mcp-session-id"],
    ...["user-agent", "accept", "traceparent", "x-request-id", "dpop", "proxy-authorization"],
  ])("does not send a claim as %s", (name) => {
    expect(problems(`{${name}: email}`)).toEqual([
      expect.stringMatching(/cannot carry a claim -> give the header another name/),
    ]);
  });

  it.each([
    "X-Email",
    "Remote-User",
    "X-Forwarded-User",
    "X-Forwarded-Preferred-Username",
    "X-Pomerium-Claim-Mail",
  ])("sends a claim as %s", (name) => expect(problems(`{${name}: email}`)).toEqual([]));

  it("rejects names that no header or claim can have, and one header twice", () => {
    expect(problems('{"X Mail": email}')).toEqual([expect.stringContaining('"X Mail" is not a header name')]);
    expect(problems("{X-Mail: 'e mail'}")).toEqual([expect.stringContaining("is not the name of a claim")]);
    expect(problems("[address/country]")).toEqual([
      expect.stringContaining("write a mapping: {X-Name-Of-Header: name-of-claim}"),
    ]);
    expect(problems("{X-Mail: email, x_mail: sub}")).toEqual([
      expect.stringContaining("x_mail is named twice"),
    ]);
    expect(problems(`[${Array.from({ length: 21 }, (_, index) => `c${index}`).join(", ")}]`)).toEqual([
      expect.stringContaining("more than 20 headers"),
    ]);
  });

  const takenBy = [
    ["passes from clients", "request_headers: {pass: [X-Team]}", "is not passed from clients"],
    ["sets", "request_headers: {set: {x_team: a}}", "the route's own value is sent"],
    [
      "sends its credential in",
      "upstream_auth: {api_key: {header: X-Team, value: k}}",
      "the route's own value is sent",
    ],
  ] as const;
  const route = (settings: string, more = "") =>
    `  - {id: r, from: https://h.example.com, to: http://x, mcp: {server: {${settings}}}${more}}\n`;

  it.each(takenBy)("of a route are not for a header that it %s", (_how, settings) => {
    expect(problems("[]", route(settings, ", jwt_claims_headers: {X-Team: team}"))).toEqual([
      expect.stringMatching(/x.team is set in two places: jwt_claims_headers sets it from a claim/i),
    ]);
  });

  it.each(takenBy)("of all routes give way to a header that one %s", (_how, settings, warning) => {
    const found = problems("{X-Team: team, X-Mail: email}", route(settings));
    expect(found).toEqual([expect.stringContaining(warning)]);
    expect(found[0]).toContain("warning");
  });
});
