import { describe, expect, it } from "vitest";
import { compilePathMatcher, loosePath } from "../../src/policy/http-path.ts";

const route = { prefix: "/team", upstreamPath: "/mcp" };

describe("http_path", () => {
  it.each([
    ["/team/admin", true],
    ["/team/mcp/admin", true],
    ["/team/admin/", true],
    ["/team/Admin;v=1", true],
    ["/team/%2561dmin", true],
    ["/team/admins", false],
    ["/team/x/admin", false],
  ])("a rule that denies /admin: %s -> %s", (path, matches) => {
    expect(compilePathMatcher({ kind: "is", value: "/admin" }, true)({ path, route })).toBe(matches);
  });

  it.each([
    ["/team/public", true],
    ["/team/mcp/public", true],
    ["/public", false],
    ["/team/Public", false],
    ["/team/public;v=1", false],
    ["/team/public/", false],
  ])("a rule that allows /mcp/public: %s -> %s", (path, matches) => {
    expect(compilePathMatcher({ kind: "is", value: "/mcp/public" }, false)({ path, route })).toBe(matches);
  });

  it("is inverted for not_in", () => {
    const all = { kind: "not_in", values: ["/mcp"] } as const;
    expect(compilePathMatcher(all, true)({ path: "/team", route })).toBe(false);
    expect(compilePathMatcher(all, true)({ path: "/team/;x", route })).toBe(true);
    const secret = { kind: "not_in", values: ["/mcp/secret"] } as const;
    expect(compilePathMatcher(secret, false)({ path: "/team/a", route })).toBe(true);
    expect(compilePathMatcher(secret, false)({ path: "/team/mcp/SECRET;a", route })).toBe(false);
  });

  it("reads a path as the most lenient server does", () => {
    expect(loosePath("/a/;x/%2e%2e/b%20./c;d")).toBe("/b/c");
    expect(loosePath("/a%255Cb/")).toBe("/a/b/");
    expect(loosePath("/a%3Fb")).toBe("/a");
  });
});
