import { expect, test } from "vitest";
import { upstreamUrl } from "../../src/config/paths.ts";
import type { Route } from "../../src/model/route.ts";

const route = (prefix: string, upstream: string, upstreamPath?: string): Route => ({
  id: "r",
  name: "R",
  description: "",
  origin: "https://a.test",
  host: "a.test",
  prefix,
  resource: "https://a.test",
  to: [upstream],
  upstream,
  upstreamHash: "",
  upstreamPath,
  mcp: { kind: "client" },
  passIdentityHeaders: true,
  enabled: true,
});

test.each([
  ["no path in `to`: the path is unchanged", route("/v1", "http://x:1"), "/v1/a", "http://x:1/v1/a"],
  ["the root becomes `to`", route("/", "http://x:1/mcp", "/mcp"), "/", "http://x:1/mcp"],
  ["a path below the root goes below `to`", route("/", "http://x:1/mcp", "/mcp"), "/a", "http://x:1/mcp/a"],
  ["/mcp is not duplicated", route("/", "http://x:1/mcp", "/mcp"), "/mcp", "http://x:1/mcp"],
  ["nor is a path below it", route("/", "http://x:1/mcp", "/mcp"), "/mcp/a", "http://x:1/mcp/a"],
  ["a longer word is another path", route("/", "http://x:1/mcp", "/mcp"), "/mcpx", "http://x:1/mcp/mcpx"],
  ["the prefix becomes `to`", route("/v1", "http://x:1/mcp", "/mcp"), "/v1", "http://x:1/mcp"],
  ["also with a trailing slash", route("/v1", "http://x:1/mcp", "/mcp"), "/v1/", "http://x:1/mcp"],
  [
    "a trailing slash below it is kept",
    route("/v1", "http://x:1/mcp", "/mcp"),
    "/v1/a/",
    "http://x:1/mcp/a/",
  ],
  ["as on the upstream's own path", route("/v1", "http://x:1/mcp", "/mcp"), "/v1/mcp/", "http://x:1/mcp/"],
  ["below the prefix", route("/v1", "http://x:1/mcp", "/mcp"), "/v1/a/b", "http://x:1/mcp/a/b"],
  [
    "below the prefix, not duplicated",
    route("/v1", "http://x:1/mcp", "/mcp"),
    "/v1/mcp/b",
    "http://x:1/mcp/b",
  ],
  ["a query is not part of it", route("/v1", "http://x:1/mcp?a=1", "/mcp"), "/v1/b", "http://x:1/mcp/b"],
  ["`to` is a root with a slash", route("/v1", "http://x:1/", "/"), "/v1/a", "http://x:1/a"],
])("%s", (_name, given, path, url) => {
  expect(upstreamUrl(given, path)).toBe(url);
});
