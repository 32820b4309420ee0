import { describe, expect, it } from "vitest";
import { problemsOf } from "./problems-of.ts";

const token = "a-token-as-long-as-tokens-have-to-be-1";
const file = (adminApi: string) => `issuer: https://auth.example.com
sign_in: {providers: [{issuer: https://id.example.com, client_id: c}]}
policy: {allow: {or: [{user: company/a}]}}
admin_api: ${adminApi}
routes: [{from: https://h.example.com, to: http://x, mcp: {}}]
`;
const problems = (adminApi: string) =>
  problemsOf(file(adminApi)).map((problem) => problem.replace(/^\d+:\d+ /, ""));
const tooShort =
  "a token of the admin API is too short, or has characters that are not valid in a header -> generate one: openssl rand -base64 33";

describe("admin_api", () => {
  it("takes tokens with and without a name, policies and host names", () => {
    expect(
      problems(
        `{admin_tokens: [${token}, {name: pipeline, token: ${token}-2}], admins: {allow: {or: [{groups: {has: platform}}]}}, viewers: {allow: {or: [{groups: everyone}]}}, hosts: [admin.localhost]}`,
      ),
    ).toEqual([]);
  });

  it("reports a short token, with and without a name", () => {
    expect(problems("{admin_tokens: [short]}")).toEqual([`error admin_api.admin_tokens[0]: ${tooShort}`]);
    expect(problems("{viewer_tokens: [{name: a, token: short}]}")).toEqual([
      `error admin_api.viewer_tokens[0].token: ${tooShort}`,
    ]);
  });

  it("reports two tokens of one name, which audit events could not tell apart", () => {
    expect(
      problems(`{admin_tokens: [{name: a, token: ${token}}], viewer_tokens: [{name: a, token: ${token}-2}]}`),
    ).toEqual([
      "error admin_api.viewer_tokens[0].name: two tokens are named a: audit events could not tell them apart -> give each token a different name",
    ]);
  });

  it.each(["{mcp_tool: x}", "{http_method: POST}", "{source_ip: 10.0.0.0/8}"])(
    "rejects a policy for people that is about a request: %s",
    (criterion) => {
      const name = /\w+/.exec(criterion)?.[0];
      expect(problems(`{admins: {allow: {and: [{groups: platform}, ${criterion}]}}}`)).toEqual([
        `error admin_api.admins: ${name} is about a request, and this policy decides about a person -> use email, domain, user, groups or claim/NAME`,
      ]);
    },
  );

  it("warns that a policy makes everybody who can sign in an administrator", () => {
    expect(problems("{admins: {allow: {or: [{authenticated_user: true}]}}}")).toEqual([
      "warning admin_api.admins: everybody who can sign in is one of the admins of this gateway -> use email, domain, user, groups or claim/NAME",
    ]);
  });

  it("takes host names only: no URL, no port", () => {
    for (const host of ["https://admin.example.com", "admin.example.com:9090", "*.example.com"])
      expect(problems(`{hosts: ["${host}"]}`)).toEqual([
        expect.stringMatching(/^error admin_api\.hosts\[0\]: ".*" is not a host name/),
      ]);
  });
});
