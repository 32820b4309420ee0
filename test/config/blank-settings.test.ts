import { describe, expect, it } from "vitest";
import { load } from "./load.ts";
import { problemsOf } from "./problems-of.ts";

const head = "issuer: https://auth.example.com\npolicy: {allow: {or: [{accept: true}]}}\n";
const signIn = "sign_in: {providers: [{issuer: https://id.example.com, client_id: c}]}\n";
const problems = (server: string, env: Record<string, string> = {}) =>
  problemsOf(
    `${head}${signIn}routes:\n  - {id: r, from: https://h.example.com, to: http://x, mcp: {server: ${server}}}\n`,
    env,
  ).map((one) => one.replace(/^\S+ /, ""));

describe("a blank setting of the routes file", () => {
  const auth = "error routes[0].mcp.server.upstream_auth";
  it.each([
    ['{upstream_auth: {api_key: {header: X-Key, value: ""}}}', `${auth}.api_key.value: value is empty`],
    ['{upstream_auth: {headers: {X-Key: " "}}}', `${auth}.headers.X-Key: X-Key is empty`],
    ["{upstream_auth: {headers: {}}}", `${auth}.headers: headers is empty`],
    ["{request_headers: {set: {}}}", "error routes[0].mcp.server.request_headers.set: set is empty"],
    ['{request_headers: {pass: [" "]}}', "error routes[0].mcp.server.request_headers.pass: pass is empty"],
    [
      '{upstream_oauth2: {client_id: c, client_secret: ""}}',
      "error routes[0].mcp.server.upstream_oauth2.client_secret: client_secret is empty",
    ],
  ])("%s is an error that names it", (server, problem) => {
    expect(problems(server)).toEqual([expect.stringContaining(problem)]);
  });

  it("is an error in a variable, too", () => {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the file's syntax
    const server = "{upstream_auth: {api_key: {header: X-Key, value: '${KEY}'}}}";
    expect(problems(server, { KEY: " \n" })).toEqual([
      expect.stringContaining("the environment variable KEY is empty"),
    ]);
    expect(problems(server)).toEqual([expect.stringContaining("the environment variable KEY is not set")]);
  });

  it("around a text is not part of it, nor of a secret; the inside stays", () => {
    const { config } = load(
      `  - id: " r "
    name: "Two  words "
    from: " https://h.example.com "
    to: ["http://x ", ""]
    labels: {tier: 1, team: " search "}
    allowed_users: [" ", "ann "]
    well_known: {security.txt: " as written "}
    mcp: {server: {upstream_auth: {headers: {X-Key: '\${KEY}'}}}}
`,
      { KEY: " a b\n" },
    );
    expect(config.routes[0]).toMatchObject({
      ...{ id: "r", name: "Two  words", resource: "https://h.example.com", to: ["http://x"] },
      labels: { tier: "1", team: "search" },
      mcp: { auth: { headers: [["x-key", "a b"]] } },
    });
    expect(config.routes[0]?.wellKnown?.get("/.well-known/security.txt")?.body).toBe(" as written ");
  });

  it("that is dropped from a list does not move the position of a later problem", () => {
    const entry =
      "routes:\n  - from: https://h.example.com\n    mcp: {}\n    to:\n      - ''\n      - http://x\n      - ftp://y\n";
    expect(problemsOf(head + signIn + entry)).toEqual([
      expect.stringMatching(/^10:9 error routes\[0\]\.to\[2\]: "ftp:\/\/y" is not an http or https URL/),
    ]);
  });
});
