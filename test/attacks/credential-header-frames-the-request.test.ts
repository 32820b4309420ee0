import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startAdmin } from "../admin/start-admin.ts";
import { problemsOf } from "../config/problems-of.ts";

const names = [
  "Host",
  "Content-Length",
  "Transfer-Encoding",
  "transfer_encoding",
  "Connection",
  "TE",
  "Trailer",
  "Upgrade",
  "Keep-Alive",
  "Expect",
  "Via",
  "Forwarded",
  "HTTP2-Settings",
  "Proxy-Authorization",
  "Proxy-Connection",
  "Cookie",
  "Content-Type",
  "Content-Encoding",
  "MCP-Session-Id",
  "DPoP",
  "X-Envoy-Original-Path",
  "X-Forwarded-Host",
  "X-Pomerium-Jwt-Assertion",
  "X_Pomerium_Assertion",
  ":authority",
];
const file = (auth: object) => `issuer: https://auth.test
sign_in: {providers: [{id: company, issuer: https://id.test, client_id: c}]}
policy: {allow: {and: [{authenticated_user: true}]}}
routes:
  - {id: one, from: https://one.test, to: http://x, mcp: {server: {upstream_auth: ${JSON.stringify(auth)}}}}
`;
const at = "routes[0].mcp.server.upstream_auth";

describe("a static credential in a header that frames, routes or authenticates a request", () => {
  let admin: Awaited<ReturnType<typeof startAdmin>>;
  beforeAll(async () => {
    admin = await startAdmin();
  });
  afterAll(() => admin?.close());
  const create = (upstream_auth: object) =>
    admin.first.call("POST", "/routes", {
      id: "one",
      from: "https://one.test",
      to: "http://127.0.0.1:1",
      mcp: { server: { upstream_auth } },
    });

  it.each(names)("%s is rejected in the routes file and by the admin API", async (name) => {
    const key = { api_key: { header: name, value: "v" } };
    const several = { headers: { "X-Good": "v", [name]: "v" } };
    expect(problemsOf(file(key))).toEqual([expect.stringContaining(`error ${at}.api_key.header: `)]);
    expect(problemsOf(file(several))).toEqual([expect.stringContaining(`error ${at}.headers.${name}: `)]);
    for (const auth of [key, several]) {
      const { status, body, text } = await create(auth);
      expect([status, body.error], text).toEqual([400, "invalid_route"]);
      expect(body.problems).toEqual([
        expect.objectContaining({
          message: expect.stringContaining(name),
          fix: expect.stringContaining("X-Api-Key"),
        }),
      ]);
    }
  });

  it.each(["a\r\nhost: evil.internal", "a\nb", "a\u0000b", "a\tb", "\u007f"])(
    "a value with a control character (%j) is rejected in both, and not shown",
    async (value) => {
      for (const auth of [{ api_key: { header: "X-Api-Key", value } }, { headers: { "X-Api-Key": value } }]) {
        const problems = problemsOf(file(auth));
        expect(problems).toEqual([expect.stringContaining("control character")]);
        expect(problems.join()).not.toContain("evil");
        const { status, text } = await create(auth);
        expect(status).toBe(400);
        expect(text).not.toContain("evil");
      }
    },
  );

  it("the same header twice, in different case, is rejected", () => {
    expect(problemsOf(file({ headers: { "X-Key": "a", "x-key": "b" } }))).toEqual([
      expect.stringContaining("x-key and X-Key are one header"),
    ]);
  });

  it.each(["Authorization", "X-Api-Key", "Private-Token", "X-User-Id"])("%s is accepted", (name) => {
    expect(problemsOf(file({ api_key: { header: name, value: "v" } }))).toEqual([]);
  });
});
