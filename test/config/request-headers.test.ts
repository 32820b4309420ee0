import { describe, expect, it } from "vitest";
import { load } from "./load.ts";
import { problemsOf } from "./problems-of.ts";

const head =
  "issuer: https://auth.example.com\nsign_in: {providers: [{issuer: https://id.example.com, client_id: c}]}\npolicy: {allow: {or: [{accept: true}]}}\n";
const route = (headers: string, more = "") =>
  `  - {id: r, from: https://h.example.com, to: http://x, mcp: {server: {request_headers: ${headers}${more}}}}\n`;
const problems = (headers: string, more = "") => problemsOf(`${head}routes:\n${route(headers, more)}`);

describe("mcp.server.request_headers", () => {
  it("returns the headers to pass and to set, in lower case", () => {
    const { table } = load(route("{pass: [X-Api-Key], set: {X-Region: eu}}"));
    expect(table.byId("r")?.mcp).toMatchObject({
      requestHeaders: { pass: ["x-api-key"], set: [["x-region", "eu"]], given: true },
    });
  });

  it.each([
    "Authorization",
    "cookie",
    "origin",
    "Host",
    "content-length",
    "transfer-encoding",
    "connection",
    "x-envoy-max-retries",
    "x-pomerium-assertion",
    "x-forwarded-for",
    "x-auth-user",
    "x-userinfo",
    "x_user_id",
    "DPoP",
  ])("does not pass %s", (name) => {
    expect(problems(`{pass: [${name}]}`)).toEqual([expect.stringContaining(`remove ${name}`)]);
  });

  it("does not set headers of the gateway or of a credential", () => {
    expect(problems("{set: {Authorization: a}}")).toEqual([
      expect.stringContaining("authorization is set or removed by the gateway"),
    ]);
    const key = ", upstream_auth: {api_key: {header: X-Key, value: k}}";
    expect(problems("{set: {x-key: a}}", key)).toEqual([expect.stringContaining("set in two places")]);
  });

  it("finds the route of a resource in any spelling, and none for an encoded slash", () => {
    const { table } = load("  - {id: r, from: https://h.example.com/mcp, to: http://x, mcp: {}}\n");
    for (const path of ["/mcp", "/mcp/", "/%6Dcp", "//mcp", "/mcp//a"])
      expect(table.byResource(`https://h.example.com${path}`)?.id, path).toBe("r");
    for (const path of ["/mcp%2Fa", "/mcp%5Ca", "/mcp/..%2f", "/mcp;/..;/a"])
      expect(table.byResource(`https://h.example.com${path}`)?.id, path).toBeUndefined();
  });
});
